#pragma once

#include <map>
#include <string>
#include <string_view>

namespace knapsaq {

struct Reply {
  int status = 0;                              ///< 0: nobody answered
  std::map<std::string, std::string> headers;  ///< names in lower case
  std::string body;
};

/// Sends bytes to a port of 127.0.0.1 and reads until the other side closes: a client that may say what it
/// wants.
Reply send_raw(int port, std::string_view bytes);

/// GET of an address "http://127.0.0.1:PORT/path", with more header lines ("Name: value\r\n").
Reply get(const std::string& address, const std::string& headers = "");
Reply post(const std::string& address, const std::string& body,
           const std::string& headers = "X-Knapsaq: test\r\n");

}  // namespace knapsaq
