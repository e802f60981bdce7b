#include "knapsaq/watch/watch_site.h"

#include <algorithm>
#include <exception>
#include <memory>
#include <optional>
#include <span>
#include <utility>

#include <fmt/core.h>
#include <nlohmann/json.hpp>

#include "knapsaq/base/error.h"
#include "knapsaq/base/hash.h"
#include "knapsaq/base/json_text.h"
#include "knapsaq/base/quote.h"
#include "knapsaq/report/html_page.h"
#include "knapsaq/report/page_files.h"
#include "knapsaq/search/stop_file.h"
#include "knapsaq/watch/live_files.h"

namespace knapsaq {
namespace {

using nlohmann::json;
using Clock = std::chrono::steady_clock;

constexpr std::size_t kMostPicks = 20;
constexpr std::size_t kMostLevels = 65536;
constexpr std::size_t kLongestName = 4096;

constexpr const char* kHtml = "text/html; charset=utf-8";
constexpr const char* kJson = "application/json; charset=utf-8";
constexpr const char* kScript = "text/javascript; charset=utf-8";
constexpr const char* kStyle = "text/css; charset=utf-8";

/// In a time that says nothing about where they differ.
bool equal(std::string_view a, std::string_view b) {
  if (a.size() != b.size()) return false;
  unsigned char difference = 0;
  for (std::size_t i = 0; i < a.size(); ++i) difference |= static_cast<unsigned char>(a[i] ^ b[i]);
  return difference == 0;
}

/// Whether a Host header names this machine by a name that no other machine's owner can give away: with any
/// port, as `ssh -L` makes of ours. A page of another site that had its name lead here sends that name.
bool is_local(std::string_view host) {
  const auto with_port = [&](std::string_view name) {
    if (!host.starts_with(name)) return false;
    const std::string_view port = host.substr(name.size());
    return port.empty() || (port[0] == ':' && port.size() > 1 &&
                            port.find_first_not_of("0123456789", 1) == std::string_view::npos);
  };
  return with_port("127.0.0.1") || with_port("localhost") || with_port("[::1]");
}

HttpAnswer text_answer(int status, std::string text) {
  HttpAnswer answer;
  answer.status = status;
  answer.body = std::make_shared<const std::string>(std::move(text));
  return answer;
}

HttpAnswer not_found() { return text_answer(404, "not found\n"); }

/// What a request did, or a line about why it did not.
HttpAnswer said(int status, const std::string& message) {
  HttpAnswer answer =
      text_answer(status, json{{"message", message}}.dump(-1, ' ', false, json::error_handler_t::replace));
  answer.type = kJson;
  return answer;
}

HttpAnswer tagged(const HttpRequest& request, const char* type, std::shared_ptr<const std::string> body,
                  std::string_view tag) {
  HttpAnswer answer;
  answer.type = type;
  answer.headers["ETag"] = fmt::format("\"{}\"", tag);
  if (request.header("if-none-match") == answer.headers["ETag"])
    answer.status = 304;
  else
    answer.body = std::move(body);
  return answer;
}

/// A file of the page: what it is made of does not change while the process lives.
HttpAnswer file(const HttpRequest& request, const char* type, std::initializer_list<std::string_view> parts) {
  auto text = std::make_shared<std::string>();
  for (const std::string_view part : parts) *text += part;
  const std::string tag = hash_hex(*text);
  return tagged(request, type, std::move(text), tag);
}

/// The page's own version: a page of another one loads itself anew.
const std::string& page_version() {
  static const std::string version = [] {
    Hasher hasher;
    for (const std::string_view part :
         {page_html(), page_css(), page_js(), page_charts(), live_html(), live_css(), live_js()})
      hasher.update(part);
    return hasher.hex();
  }();
  return version;
}

std::string_view state_of(const RunFollower::View& view) {
  if (!view.status) return "unknown";
  if (view.status->state == RunStatus::State::running && !view.alive) return "killed";
  return name_of(view.status->state);
}

}  // namespace

WatchSite::WatchSite(WatchOptions options, std::string token)
    : options_(std::move(options)),
      token_(std::move(token)),
      follower_(options_.run, options_.model),
      asked_(Clock::now().time_since_epoch().count()) {}

WatchSite::~WatchSite() = default;

HttpAnswer WatchSite::answer(const HttpRequest& request) {
  const auto plain = [&]() -> HttpAnswer {
    if (!is_local(request.header("host"))) return not_found();
    const std::string_view path = request.path;
    // "/TOKEN/name"
    if (path.size() < token_.size() + 2 || path[0] != '/' || !equal(path.substr(1, token_.size()), token_) ||
        path[token_.size() + 1] != '/')
      return not_found();
    asked_ = Clock::now().time_since_epoch().count();
    const std::string_view name = path.substr(token_.size() + 2);
    if (request.method == "GET") {
      if (name.empty()) return page();
      if (name == "state") return state(request);
      if (name == "data") return data(request);
      if (name == "page.css") return file(request, kStyle, {page_css(), live_css()});
      if (name == "early.js") return file(request, kScript, {page_early_js()});
      if (name == "charts.js") return file(request, kScript, {page_charts()});
      if (name == "page.js") return file(request, kScript, {page_js(), live_js()});
      return not_found();
    }
    const std::string_view origin = request.header("origin");
    const bool own =
        !request.header("x-knapsaq").empty() &&
        (origin.empty() || (origin.starts_with("http://") && origin.substr(7) == request.header("host")));
    if (request.method != "POST" || !own) return not_found();
    if (name == "stop") return stop();
    if (name == "pick") return pick(request);
    return not_found();
  };
  HttpAnswer answer = plain();
  auto& headers = answer.headers;
  headers["Cache-Control"] = answer.headers.contains("ETag") ? "no-cache" : "no-store";
  headers["Content-Security-Policy"] =
      "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; connect-src 'self'; img-src "
      "data:; "
      "base-uri 'none'; form-action 'none'; frame-ancestors 'none'";
  headers["Cross-Origin-Opener-Policy"] = "same-origin";
  headers["Cross-Origin-Resource-Policy"] = "same-origin";
  headers["Referrer-Policy"] = "no-referrer";  // the address holds the token
  headers["X-Content-Type-Options"] = "nosniff";
  return answer;
}

bool WatchSite::is_idle() {
  {
    const std::lock_guard lock(mutex_);
    if (writing_) return false;
  }
  return !follower_.look().alive;
}

std::chrono::seconds WatchSite::quiet() const {
  return std::chrono::duration_cast<std::chrono::seconds>(Clock::now().time_since_epoch() -
                                                          Clock::duration(asked_.load()));
}

HttpAnswer WatchSite::page() const {
  PageParts parts;
  parts.title = options_.run.filename().string();
  parts.kind = "live";
  parts.maker = "knapsaq watch";
  parts.head = "<link rel=\"stylesheet\" href=\"page.css\">\n<script src=\"early.js\"></script>";
  parts.top = live_html();
  parts.scripts = "<script src=\"charts.js\"></script>\n<script src=\"page.js\"></script>";
  HttpAnswer answer = text_answer(200, page_of(parts));
  answer.type = kHtml;
  return answer;
}

HttpAnswer WatchSite::state(const HttpRequest& request) {
  const RunFollower::View view = follower_.look();
  json picks = json::array();
  {
    const std::lock_guard lock(mutex_);
    for (const Pick& one : picks_)
      picks.push_back(
          {{"output", one.output}, {"state", one.state}, {"message", one.message}, {"bytes", one.bytes}});
  }
  const json all = {{"version", page_version()},
                    {"run", options_.run.string()},
                    {"command", fmt::format("knapsaq watch {}", in_shell(options_.run.string()))},
                    {"folder", std::filesystem::current_path().string()},
                    {"state", state_of(view)},
                    {"status", view.status ? json::parse(to_text(*view.status)) : json(nullptr)},
                    {"archive", view.has_archive},
                    {"data", view.data_tag},
                    {"problem", view.problem},
                    {"stopping", view.alive && stop_requested(options_.run)},
                    {"canPick", options_.pick != nullptr},
                    {"picks", std::move(picks)}};
  auto text = std::make_shared<const std::string>(all.dump(-1, ' ', false, json::error_handler_t::replace));
  const std::string tag = hash_hex(*text);
  return tagged(request, kJson, std::move(text), tag);
}

HttpAnswer WatchSite::data(const HttpRequest& request) const {
  std::string tag;
  std::shared_ptr<const std::string> text = follower_.data(tag);
  if (!text) return said(404, "nothing is measured yet");
  return tagged(request, kJson, std::move(text), tag);
}

HttpAnswer WatchSite::stop() {
  const RunFollower::View view = follower_.look();
  if (!view.alive || !view.status->search || !view.status->search->can_stop)
    return said(409, "no search is running that could be stopped");
  try {
    request_stop(options_.run);
  } catch (const Error& error) {
    return said(500, error.what());
  }
  return said(200, "the search stops after this round");
}

HttpAnswer WatchSite::pick(const HttpRequest& request) {
  if (!options_.pick) return said(404, "this server writes no models");
  Pick one;
  Point point;
  try {
    const json asked = parse_json(request.body);
    one.output = asked.at("output").get<std::string>();
    const json& levels = asked.at("levels");
    if (!levels.is_array() || levels.empty() || levels.size() > kMostLevels)
      return said(400, "levels: is no allocation of this run");
    for (const json& level : levels)
      point.push_back(static_cast<std::uint8_t>(whole_number(level, "levels", 0, 255)));
  } catch (const InputError& error) {
    return said(400, error.what());
  } catch (const json::exception& error) {
    return said(400, json_reason(error));
  }
  if (one.output.empty() || one.output.size() > kLongestName || one.output.find('\0') != std::string::npos)
    return said(400, "give the name of a folder or file to write");
  const std::lock_guard lock(mutex_);
  if (writing_) return said(409, "another model is being written: wait for its end");
  if (picks_.size() == kMostPicks) picks_.erase(picks_.begin());
  picks_.push_back(std::move(one));
  writing_ = true;
  // The one before has ended: it set writing_ as its last action, so this does not wait.
  writer_ =
      std::jthread([this, point = std::move(point), number = picks_.size() - 1] { write(point, number); });
  return said(202, "writing");
}

void WatchSite::write(const Point& point, std::size_t number) {
  std::string output;
  {
    const std::lock_guard lock(mutex_);
    output = picks_[number].output;
  }
  std::uint64_t bytes = 0;
  std::optional<std::string> problem;
  try {
    bytes = options_.pick(point, output);
  } catch (const std::exception& error) {
    problem = error.what();
  }
  const std::lock_guard lock(mutex_);
  picks_[number].bytes = bytes;
  picks_[number].state = problem ? "failed" : "done";
  picks_[number].message = problem.value_or("");
  writing_ = false;
}

}  // namespace knapsaq
