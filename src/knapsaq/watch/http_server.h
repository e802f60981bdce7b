#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <string_view>

namespace knapsaq {

/// A request that has been read. Everything in it comes from whoever connects.
struct HttpRequest {
  std::string method;  ///< "GET" (also for HEAD) or "POST"; others never get here
  std::string path;    ///< decoded, without the query
  std::map<std::string, std::string, std::less<>> headers;  ///< names in lower case; the first of each name
  std::string body;

  /// A header's value; empty if there is none.
  std::string_view header(std::string_view name) const;
};

struct HttpAnswer {
  int status = 200;
  std::string type = "text/plain; charset=utf-8";
  std::shared_ptr<const std::string> body;  ///< null: none
  std::map<std::string, std::string, std::less<>> headers;
};

/// An HTTP server on 127.0.0.1 and nothing else. cpp-httplib does the work; its header is seen by
/// http_server.cpp alone. Connections are closed after each answer, so that no tab holds a thread.
class HttpServer {
 public:
  using Handler = std::function<HttpAnswer(const HttpRequest&)>;

  /// Listens on `port`, or any free one for 0; answers from now on, in several threads. An exception out of
  /// the handler is an answer 500 without words. Bodies of requests have at most 64 KiB. Throws IoError if
  /// the port is taken. The process ignores SIGPIPE from then on.
  HttpServer(int port, Handler handler);
  /// Waits for the answers that are being made.
  ~HttpServer();
  HttpServer(const HttpServer&) = delete;
  HttpServer& operator=(const HttpServer&) = delete;

  int port() const;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace knapsaq
