// What the guard's handshakes are measured against: the loop that a program would write around
// SSL_accept, with the guard's profile of TLS, its key and chain, and OpenSSL's own verification of
// the peer's certificate. It looks at no revocation list, applies no profile, bounds nothing and
// counts nothing.
#include <arpa/inet.h>
#include <fmt/format.h>
#include <sys/socket.h>
#include <unistd.h>

#include <csignal>
#include <cstdio>
#include <cstdlib>

#include "bench/sessions/load.hpp"

namespace portcullis::bench {

namespace {

void Must(bool done, const char* what) {
  if (done) return;
  std::perror(what);
  std::exit(1);
}

identity::SslContextPtr NewContext(const std::string& folder) {
  auto context = identity::NewTlsContext(TLS_server_method(), TLS1_3_VERSION, TLS1_3_VERSION);
  SSL_CTX* c = context.get();
  identity::UseCertificateSuites(c);
  SSL_CTX_set_options(c, SSL_OP_CIPHER_SERVER_PREFERENCE);
  SSL_CTX_set_num_tickets(c, 0);
  const auto own =
      identity::UseOwnCertificate(c, {folder + "/gate.pem", folder + "/gate.key"}, folder);
  Must(own.has_value(), "the gate's certificate");
  Must(SSL_CTX_load_verify_file(c, (folder + "/ca.pem").c_str()) == 1, "the peers' CA");
  SSL_CTX_set_verify(c, SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT, nullptr);
  return context;
}

}  // namespace

void ServeHandshakes(const std::string& folder, const GateAddress& at) {
  signal(SIGPIPE, SIG_IGN);
  const auto context = NewContext(folder);
  const int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  const int on = 1;
  setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_port = htons(at.port);
  inet_pton(AF_INET, at.address.c_str(), &address.sin_addr);
  Must(bind(listener, reinterpret_cast<const sockaddr*>(&address), sizeof address) == 0, "bind");
  Must(listen(listener, SOMAXCONN) == 0, "listen");
  fmt::print("listening\n");
  std::fflush(stdout);
  for (;;) {
    const int socket = accept(listener, nullptr, nullptr);
    if (socket < 0) continue;
    {
      const identity::SslHandle ssl(SSL_new(context.get()));
      SSL_set_fd(ssl.get(), socket);
      char byte = 0;
      if (SSL_accept(ssl.get()) == 1 && SSL_read(ssl.get(), &byte, 1) <= 0) {
        SSL_shutdown(ssl.get());
      }
    }
    close(socket);
  }
}

}  // namespace portcullis::bench
