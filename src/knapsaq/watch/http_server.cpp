#include "knapsaq/watch/http_server.h"

#include <algorithm>
#include <cctype>
#include <chrono>
#include <exception>
#include <thread>
#include <utility>

#include <fmt/core.h>
#include <httplib.h>
#include <sys/socket.h>

#include "knapsaq/base/error.h"

namespace knapsaq {
namespace {

constexpr const char* kHost = "127.0.0.1";
constexpr std::size_t kMostBody = std::size_t{64} << 10;
/// Browsers open connections before they need them; each takes a thread until it times out.
constexpr std::size_t kThreads = 12;
constexpr time_t kTimeout = 3;

HttpRequest request_of(const httplib::Request& from) {
  HttpRequest request;
  request.method = from.method == "HEAD" ? "GET" : from.method;
  request.path = from.path;
  request.body = from.body;
  for (const auto& [name, value] : from.headers) {
    std::string lower = name;
    std::ranges::transform(lower, lower.begin(),
                           [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
    request.headers.try_emplace(std::move(lower), value);
  }
  return request;
}

void give(const HttpAnswer& answer, httplib::Response& to) {
  to.status = answer.status;
  for (const auto& [name, value] : answer.headers) to.set_header(name, value);
  if (!answer.body || answer.body->empty()) return;
  // From a provider the library sends as it is: bodies of its own it compresses, at the price of the search.
  to.set_content_provider(
      answer.body->size(), answer.type,
      [body = answer.body](std::size_t offset, std::size_t length, httplib::DataSink& sink) {
        return sink.write(body->data() + offset, length);
      });
}

}  // namespace

std::string_view HttpRequest::header(std::string_view name) const {
  const auto found = headers.find(name);
  return found == headers.end() ? std::string_view() : std::string_view(found->second);
}

struct HttpServer::Impl {
  explicit Impl(Handler chosen) : handler(std::move(chosen)) {
    const auto serve = [this](const httplib::Request& request, httplib::Response& response) {
      HttpAnswer answer;
      try {
        answer = handler(request_of(request));
      } catch (const std::exception&) {
        answer.status = 500;
      }
      give(answer, response);
    };
    server.Get(".*", serve);
    server.Post(".*", serve);
    server.set_payload_max_length(kMostBody);
    server.set_keep_alive_max_count(1);
    server.set_keep_alive_timeout(kTimeout);
    server.set_read_timeout(kTimeout);
    server.set_write_timeout(kTimeout);
    server.set_tcp_nodelay(true);
    // The library's default would let a second server listen on the same port.
    server.set_socket_options([](auto socket) {
      const int yes = 1;
      ::setsockopt(socket, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof yes);
    });
    server.new_task_queue = [] { return new httplib::ThreadPool(kThreads); };
  }

  Handler handler;
  httplib::Server server;
  int port = 0;
  std::thread listener;
};

HttpServer::HttpServer(int port, Handler handler) : impl_(std::make_unique<Impl>(std::move(handler))) {
  httplib::Server& server = impl_->server;
  impl_->port = port == 0 ? server.bind_to_any_port(kHost) : port;
  if (port == 0 ? impl_->port <= 0 : !server.bind_to_port(kHost, port))
    throw IoError(port == 0 ? fmt::format("{}: no port is free", kHost)
                            : fmt::format("port {} of {} is taken: give another one", port, kHost));
  std::atomic<bool> failed = false;
  impl_->listener = std::thread([this, &server, &failed] {
    if (!server.listen_after_bind()) failed = true;
  });
  // stop() does nothing before the server runs.
  while (!server.is_running() && !failed) std::this_thread::sleep_for(std::chrono::milliseconds(1));
  if (!failed) return;
  impl_->listener.join();
  throw IoError(fmt::format("cannot listen on port {} of {}", impl_->port, kHost));
}

HttpServer::~HttpServer() {
  impl_->server.stop();
  impl_->listener.join();
}

int HttpServer::port() const { return impl_->port; }

}  // namespace knapsaq
