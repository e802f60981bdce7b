#include "knapsaq/watch/watch_server.h"

#include <filesystem>
#include <functional>
#include <future>
#include <memory>
#include <string>
#include <thread>
#include <utility>

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <nlohmann/json.hpp>
#include <sys/stat.h>

#include "knapsaq/base/error.h"
#include "knapsaq/base/files.h"
#include "knapsaq/report/status_file.h"
#include "knapsaq/search/run_files.h"
#include "knapsaq/search/stop_file.h"
#include "knapsaq/watch/server_record.h"
#include "scratch.h"
#include "watch/http_client.h"
#include "watch/made_run.h"

namespace knapsaq {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;
using testing::HasSubstr;

class WatchServerTest : public testing::Test {
 protected:
  WatchServer serve(PickPoint pick = {}, int port = 0) {
    return WatchServer({scratch_ / "run", {}, std::move(pick)}, port);
  }
  static json state_of(const WatchServer& server) {
    return json::parse(get(server.address() + "state").body);
  }
  /// The state as soon as it is as expected; ctest's time limit ends a wait in vain.
  static json state_when(const WatchServer& server, const std::function<bool(const json&)>& expected) {
    while (true) {
      json state = state_of(server);
      if (expected(state)) return state;
      std::this_thread::sleep_for(std::chrono::milliseconds(20));
    }
  }
  static std::size_t points_of(const WatchServer& server) {
    const Reply reply = get(server.address() + "data");
    return reply.status == 200 ? json::parse(reply.body).at("points").at("bytes").size() : 0;
  }

  Scratch scratch_;
};

/// With a folder and nothing in it.
class EmptyRun : public WatchServerTest {
 protected:
  EmptyRun() { fs::create_directory(scratch_ / "run"); }
};

TEST_F(EmptyRun, AnswersToTheTokenAlone) {
  const WatchServer server = serve();
  EXPECT_THAT(server.address(), testing::MatchesRegex("http://127\\.0\\.0\\.1:[0-9]+/[0-9a-f]{32}/"));
  const Reply page = get(server.address());
  EXPECT_EQ(page.status, 200);
  EXPECT_THAT(page.headers.at("content-type"), HasSubstr("text/html"));
  EXPECT_THAT(page.headers.at("content-security-policy"), HasSubstr("default-src 'none'; script-src 'self'"));
  EXPECT_EQ(page.headers.at("referrer-policy"), "no-referrer");
  for (const char* part : {"page.css", "early.js", "charts.js", "page.js", "state"})
    EXPECT_EQ(get(server.address() + part).status, 200) << part;

  const std::string root = server.address().substr(0, server.address().size() - 33);
  std::string wrong = server.address();
  wrong[wrong.size() - 2] = wrong[wrong.size() - 2] == '0' ? '1' : '0';
  for (const std::string& address :
       {root, root + "state", wrong, wrong + "state", server.address() + "nothing",
        server.address() + "../state", server.address().substr(0, server.address().size() - 1)})
    EXPECT_EQ(get(address).status, 404) << address;
}

TEST_F(EmptyRun, RefusesOtherHostsAndOtherSites) {
  const WatchServer server = serve();
  const int port = std::stoi(server.address().substr(17));
  const std::string path = server.address().substr(server.address().find('/', 10)) + "state";
  const auto status_for = [&](const std::string& host) {
    return send_raw(port, "GET " + path + " HTTP/1.1\r\nHost: " + host + "\r\n\r\n").status;
  };
  for (const char* host : {"127.0.0.1", "localhost:8080", "[::1]:1"})
    EXPECT_EQ(status_for(host), 200) << host;
  for (const char* host : {"evil.example", "127.0.0.1.evil.example", "localhost.evil.example:80",
                           "127.0.0.1:", "localhost:80x", ""})
    EXPECT_EQ(status_for(host), 404) << host;

  EXPECT_EQ(post(server.address() + "stop", "{}", "").status, 404) << "without the header of our own";
  EXPECT_EQ(post(server.address() + "stop", "{}", "X-Knapsaq: 1\r\nOrigin: http://evil.example\r\n").status,
            404);
  EXPECT_EQ(post(server.address() + "stop", "{}").status, 409) << "nothing runs";
  EXPECT_EQ(get(server.address() + "stop", "X-Knapsaq: 1\r\n").status, 404);
  for (const char* method : {"PUT", "DELETE", "OPTIONS", "PATCH"}) {
    const Reply reply = send_raw(
        port, std::string(method) + " " + path + " HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 0\r\n\r\n");
    EXPECT_NE(reply.status, 200) << method;
    EXPECT_FALSE(reply.headers.contains("access-control-allow-origin"));
  }
  EXPECT_EQ(post(server.address() + "pick", std::string(100'000, ' ')).status, 413);
}

TEST_F(EmptyRun, ShowsStagesBeforeThereIsAnArchive) {
  const WatchServer server = serve();
  EXPECT_EQ(state_of(server).at("state"), "unknown");
  StatusFile status(scratch_ / "run");
  status.begin("calibrating", 10, "windows");
  const json state = state_when(server, [](const json& one) {
    return one.at("state") == "running" && !one.at("status").at("stage").is_null();
  });
  EXPECT_EQ(state.at("status").at("stage").at("name"), "calibrating");
  EXPECT_EQ(state.at("archive"), false);
  EXPECT_EQ(state.at("data"), "");
  EXPECT_EQ(get(server.address() + "data").status, 404);
}

TEST_F(EmptyRun, AStatusThatIsNoneIsNotShown) {
  const WatchServer server = serve();
  write_file(scratch_ / "run" / kStatusName, "{\"format\": 3}");
  EXPECT_EQ(state_of(server).at("state"), "unknown");
}

TEST_F(EmptyRun, KeepsItsAddressAndTheRecordToItself) {
  std::string address;
  {
    const WatchServer server = serve();
    address = server.address();
    EXPECT_EQ(served_at(scratch_ / "run"), address);
    struct stat status {};
    ASSERT_EQ(::stat((scratch_ / "run" / kServerName).c_str(), &status), 0);
    EXPECT_EQ(status.st_mode & 0777, 0600U);
  }
  EXPECT_FALSE(served_at(scratch_ / "run").has_value());
  EXPECT_EQ(get(address).status, 0);
  {
    const WatchServer again = serve();
    EXPECT_EQ(again.address(), address) << "open tabs go on";
    // A second one beside it takes another port.
    const WatchServer beside = serve();
    EXPECT_NE(beside.address(), address);
  }
  // What others could have read or made is not used.
  fs::permissions(scratch_ / "run" / kServerName, fs::perms::owner_read | fs::perms::group_read);
  EXPECT_FALSE(read_server_record(scratch_ / "run").has_value());
  const WatchServer other = serve();
  EXPECT_NE(other.address(), address);
}

TEST_F(EmptyRun, ARecordOfAnotherSystemIsNotUsed) {
  ServerRecord record;
  record.process = {this_process().id, "another-boot 17"};
  record.port = 4711;
  record.token = std::string(32, 'a');
  write_server_record(scratch_ / "run", record);
  EXPECT_FALSE(read_server_record(scratch_ / "run").has_value());
  record.process = this_process();
  write_server_record(scratch_ / "run", record);
  EXPECT_TRUE(read_server_record(scratch_ / "run").has_value());
  record.token = "../../../../../../../../../../..";
  write_server_record(scratch_ / "run", record);
  EXPECT_FALSE(read_server_record(scratch_ / "run").has_value());
}

TEST_F(WatchServerTest, RefusesWhatItCannotServe) {
  EXPECT_THROW(serve(), UsageError);  // no folder
  fs::create_directory(scratch_ / "run");
  const WatchServer server = serve();
  EXPECT_THROW(serve({}, std::stoi(server.address().substr(17))), IoError);
}

TEST_F(EmptyRun, EndsWhenTheRunIsOverAndNobodyAsks) {
  WatchServer server = serve();
  server.serve(std::chrono::seconds(0));
  SUCCEED() << "it returned";
}

TEST_F(EmptyRun, EndsWithTheFolder) {
  WatchServer server = serve();
  fs::remove_all(scratch_ / "run");
  server.serve();
  SUCCEED() << "it returned";
}

TEST_F(WatchServerTest, DataGrowWithTheRun) {
  MadeRun made(scratch_.path());
  made.grow(5);
  const WatchServer server = serve();
  const json first = state_when(server, [](const json& state) { return state.at("data") != ""; });
  EXPECT_EQ(points_of(server), 5U);
  const Reply data = get(server.address() + "data");
  EXPECT_EQ(data.headers.at("etag"), "\"" + first.at("data").get<std::string>() + "\"");
  EXPECT_EQ(get(server.address() + "data", "If-None-Match: " + data.headers.at("etag") + "\r\n").status, 304);
  EXPECT_EQ(get(server.address() + "data", "If-None-Match: \"another\"\r\n").status, 200);
  // The state has a tag, too: nothing happens, nothing is sent.
  const Reply state = get(server.address() + "state");
  EXPECT_EQ(get(server.address() + "state", "If-None-Match: " + state.headers.at("etag") + "\r\n").status,
            304);

  made.grow(7);
  state_when(server, [&](const json& one) { return one.at("data") != first.at("data"); });
  EXPECT_EQ(points_of(server), 12U);
}

TEST_F(WatchServerTest, FollowsARunWhoseProcessIsGone) {
  {
    MadeRun made(scratch_.path());
    made.grow(4);
    StatusFile status(made.folder());
  }
  // As a killed process leaves it.
  json status = json::parse(read_file(scratch_ / "run" / kStatusName));
  status["state"] = "running";
  status["process"]["start"] = "another";
  status["updated"] = 1;
  write_file(scratch_ / "run" / kStatusName, status.dump());
  const WatchServer server = serve();
  const json state = state_when(server, [](const json& one) { return one.at("data") != ""; });
  EXPECT_EQ(state.at("state"), "killed");
  EXPECT_EQ(points_of(server), 4U);
  EXPECT_EQ(post(server.address() + "stop", "{}").status, 409);
}

TEST_F(WatchServerTest, ARunThatBeginsAnewIsReadAnew) {
  auto made = std::make_unique<MadeRun>(scratch_.path());
  made->grow(9);
  const WatchServer server = serve();
  state_when(server, [](const json& one) { return one.at("data") != ""; });
  EXPECT_EQ(points_of(server), 9U);
  made.reset();
  fs::remove_all(scratch_ / "bank");
  for (const fs::directory_entry& entry : fs::directory_iterator(scratch_ / "run"))
    if (entry.path().filename().string().starts_with(kArchiveName)) fs::remove(entry.path());
  made = std::make_unique<MadeRun>(scratch_.path());
  made->grow(3);
  state_when(server, [&](const json&) { return points_of(server) == 3; });
}

TEST_F(WatchServerTest, SaysWhyTheDataCannotBeRead) {
  {
    MadeRun made(scratch_.path());
    made.grow(1);
  }
  fs::rename(scratch_ / "bank", scratch_ / "elsewhere");
  const WatchServer server = serve();
  const json state = state_when(server, [](const json& one) { return one.at("problem") != ""; });
  EXPECT_THAT(state.at("problem").get<std::string>(), HasSubstr("bank"));
  EXPECT_EQ(get(server.address() + "data").status, 404);
}

TEST_F(WatchServerTest, StopsASearch) {
  MadeRun made(scratch_.path());
  StatusFile status(made.folder());
  status.search_begins(made.run().space(), Divergence::kl, "front", true);
  const StopFile stop(made.folder());
  const WatchServer server = serve();
  state_when(server, [](const json& one) {
    return one.at("state") == "running" && !one.at("status").at("search").is_null();
  });
  EXPECT_FALSE(stop.requested());
  EXPECT_EQ(post(server.address() + "stop", "{}").status, 200);
  EXPECT_TRUE(stop.requested());
  EXPECT_EQ(state_of(server).at("stopping"), true);
}

TEST_F(EmptyRun, PicksPointsOneAtATime) {
  std::promise<void> go;
  std::shared_future<void> gone = go.get_future().share();
  Point picked;
  const WatchServer server = serve([&](const Point& point, const std::string& output) -> std::uint64_t {
    gone.wait();
    if (output == "full") throw IoError("full: cannot write: the disk is full");
    picked = point;
    return 4711;
  });
  const auto pick = [&](const std::string& body) { return post(server.address() + "pick", body).status; };
  EXPECT_EQ(state_of(server).at("canPick"), true);
  EXPECT_EQ(pick(R"({"levels": [0, 1, 2], "output": "OUT"})"), 202);
  EXPECT_EQ(pick(R"({"levels": [0, 1, 2], "output": "OUT2"})"), 409) << "one at a time";
  EXPECT_EQ(state_of(server).at("picks").at(0).at("state"), "writing");
  go.set_value();
  json state =
      state_when(server, [](const json& one) { return one.at("picks").at(0).at("state") != "writing"; });
  EXPECT_EQ(state.at("picks").at(0),
            (json{{"output", "OUT"}, {"state", "done"}, {"message", ""}, {"bytes", 4711}}));
  EXPECT_EQ(picked, (Point{0, 1, 2}));

  EXPECT_EQ(pick(R"({"levels": [0], "output": "full"})"), 202);
  state = state_when(server, [](const json& one) {
    return one.at("picks").size() == 2 && one.at("picks").at(1).at("state") != "writing";
  });
  EXPECT_EQ(state.at("picks").at(1).at("state"), "failed");
  EXPECT_EQ(state.at("picks").at(1).at("message"), "full: cannot write: the disk is full");

  for (const char* bad : {"", "{", "[]", "{}", R"({"levels": [0]})", R"({"levels": [], "output": "x"})",
                          R"({"levels": [256], "output": "x"})", R"({"levels": [0.5], "output": "x"})",
                          R"({"levels": {"a": 1}, "output": "x"})", R"({"levels": [0], "output": ""})",
                          R"({"levels": [0], "output": 3})", R"({"levels": [0], "output": "a\u0000b"})"})
    EXPECT_EQ(pick(bad), 400) << bad;
}

TEST_F(EmptyRun, WritesNothingWithoutAWriter) {
  const WatchServer server = serve();
  EXPECT_EQ(state_of(server).at("canPick"), false);
  EXPECT_EQ(post(server.address() + "pick", R"({"levels": [0], "output": "x"})").status, 404);
}

}  // namespace
}  // namespace knapsaq
