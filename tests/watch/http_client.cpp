#include "watch/http_client.h"

#include <algorithm>
#include <cctype>
#include <sstream>

#include <arpa/inet.h>
#include <fmt/core.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

namespace knapsaq {
namespace {

Reply parse(const std::string& text) {
  Reply reply;
  const std::size_t end = text.find("\r\n\r\n");
  if (end == std::string::npos) return reply;
  std::istringstream head(text.substr(0, end));
  std::string line;
  std::getline(head, line);
  std::istringstream(line.substr(line.find(' ') + 1)) >> reply.status;
  while (std::getline(head, line)) {
    if (line.ends_with('\r')) line.pop_back();
    const std::size_t colon = line.find(": ");
    std::string name = line.substr(0, colon);
    std::ranges::transform(name, name.begin(),
                           [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
    reply.headers[name] = line.substr(colon + 2);
  }
  reply.body = text.substr(end + 4);
  return reply;
}

struct Address {
  int port = 0;
  std::string path;
};
Address split(const std::string& address) {
  const std::size_t colon = address.find(':', 5);
  const std::size_t slash = address.find('/', colon);
  return {std::stoi(address.substr(colon + 1)), address.substr(slash)};
}

}  // namespace

Reply send_raw(int port, std::string_view bytes) {
  const int socket = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  sockaddr_in to{};
  to.sin_family = AF_INET;
  to.sin_port = htons(static_cast<std::uint16_t>(port));
  to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  std::string text;
  if (::connect(socket, reinterpret_cast<const sockaddr*>(&to), sizeof to) == 0 &&
      ::send(socket, bytes.data(), bytes.size(), MSG_NOSIGNAL) == static_cast<ssize_t>(bytes.size())) {
    char buffer[4096];
    ssize_t count = 0;
    while ((count = ::recv(socket, buffer, sizeof buffer, 0)) > 0)
      text.append(buffer, static_cast<std::size_t>(count));
  }
  ::close(socket);
  return parse(text);
}

Reply get(const std::string& address, const std::string& headers) {
  const auto [port, path] = split(address);
  return send_raw(port, fmt::format("GET {} HTTP/1.1\r\nHost: 127.0.0.1:{}\r\n{}\r\n", path, port, headers));
}

Reply post(const std::string& address, const std::string& body, const std::string& headers) {
  const auto [port, path] = split(address);
  return send_raw(port, fmt::format("POST {} HTTP/1.1\r\nHost: 127.0.0.1:{}\r\nContent-Type: "
                                    "application/json\r\nContent-Length: {}\r\n{}\r\n{}",
                                    path, port, body.size(), headers, body));
}

}  // namespace knapsaq
