// A web server on loopback for tests: one thread, one connection at a time, an answer for each
// request in turn. With TLS it may ask for the client's certificate.
#pragma once

#include <sys/stat.h>

#include <gtest/gtest.h>
#include <openssl/pem.h>
#include <openssl/x509v3.h>

#include <atomic>
#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/read.hpp>
#include <boost/asio/read_until.hpp>
#include <boost/asio/ssl.hpp>
#include <boost/asio/streambuf.hpp>
#include <boost/asio/write.hpp>
#include <cstdio>
#include <deque>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <thread>
#include <vector>

namespace portcullis::identity::test {

namespace asio = boost::asio;

/// A self-signed certificate for 127.0.0.1 and its key, as PEM files `path`.pem and `path`.key.
inline void MakeCertificate(const std::string& path) {
  constexpr long kDay = 86400;  // NOLINT: OpenSSL's type
  EVP_PKEY* key = EVP_EC_gen("P-256");
  X509* certificate = X509_new();
  X509_set_version(certificate, 2);
  ASN1_INTEGER_set(X509_get_serialNumber(certificate), 1);
  X509_gmtime_adj(X509_getm_notBefore(certificate), -kDay);
  X509_gmtime_adj(X509_getm_notAfter(certificate), kDay);
  X509_set_pubkey(certificate, key);
  X509_NAME* name = X509_get_subject_name(certificate);
  X509_NAME_add_entry_by_txt(name, "CN", MBSTRING_UTF8,
                             reinterpret_cast<const unsigned char*>(path.c_str()) +
                                 (path.size() > 60 ? path.size() - 60 : 0),
                             -1, -1, 0);
  X509_set_issuer_name(certificate, name);
  X509_EXTENSION* san = X509V3_EXT_conf_nid(nullptr, nullptr, NID_subject_alt_name, "IP:127.0.0.1");
  X509_add_ext(certificate, san, -1);
  X509_EXTENSION_free(san);
  ASSERT_GT(X509_sign(certificate, key, EVP_sha256()), 0);
  for (const bool secret : {false, true}) {
    FILE* file = std::fopen((path + (secret ? ".key" : ".pem")).c_str(), "w");
    ASSERT_NE(file, nullptr);
    if (secret) {
      PEM_write_PrivateKey(file, key, nullptr, nullptr, 0, nullptr, nullptr);
    } else {
      PEM_write_X509(file, certificate);
    }
    std::fclose(file);
  }
  chmod((path + ".key").c_str(), S_IRUSR | S_IWUSR);
  X509_free(certificate);
  EVP_PKEY_free(key);
}

class TestServer {
 public:
  /// What is written, byte for byte; nothing: the connection is left open without an answer.
  using Answer = std::optional<std::string>;

  static Answer Http(const std::string& status, const std::string& body,
                     const std::string& more = {}) {
    return "HTTP/1.1 " + status + "\r\nContent-Length: " + std::to_string(body.size()) + "\r\n" +
           more + "\r\n" + body;
  }
  static Answer Good(const std::string& body) { return Http("200 OK", body); }

  /// `certificate` empty: no TLS. `client_ca` empty: no client certificate is asked for.
  explicit TestServer(const std::string& certificate = {}, const std::string& client_ca = {}) {
    if (!certificate.empty()) {
      tls_.emplace(asio::ssl::context::tls_server);
      tls_->use_certificate_chain_file(certificate + ".pem");
      tls_->use_private_key_file(certificate + ".key", asio::ssl::context::pem);
      if (!client_ca.empty()) {
        tls_->load_verify_file(client_ca + ".pem");
        tls_->set_verify_mode(asio::ssl::verify_peer | asio::ssl::verify_fail_if_no_peer_cert);
      }
    }
    thread_ = std::thread([this] { Serve(); });
  }
  ~TestServer() {
    stopping_ = true;
    boost::system::error_code ignored;
    asio::ip::tcp::socket knock(io_);
    knock.connect(acceptor_.local_endpoint(), ignored);
    thread_.join();
  }
  TestServer(const TestServer&) = delete;
  TestServer& operator=(const TestServer&) = delete;

  /// The last answer is given again and again.
  void Then(Answer answer) {
    const std::lock_guard lock(mutex_);
    answers_.push_back(std::move(answer));
  }
  std::vector<std::string> Requests() {
    const std::lock_guard lock(mutex_);
    return requests_;
  }
  [[nodiscard]] std::string Url(const std::string& host = "127.0.0.1") const {
    return (tls_ ? "https://" : "http://") + host + ":" +
           std::to_string(acceptor_.local_endpoint().port()) + "/path";
  }

 private:
  void Serve() {
    while (true) {
      boost::system::error_code error;
      asio::ip::tcp::socket socket(io_);
      acceptor_.accept(socket, error);
      if (stopping_) return;
      if (error) continue;
      if (!tls_) {
        Speak(socket);
      } else {
        asio::ssl::stream<asio::ip::tcp::socket&> stream(socket, *tls_);
        stream.handshake(asio::ssl::stream_base::server, error);
        if (!error) Speak(stream);
      }
      kept_.push_back(std::move(socket));
      if (kept_.size() > kMostKept) kept_.pop_front();
    }
  }

  template <class Stream>
  void Speak(Stream& stream) {
    boost::system::error_code error;
    std::string request;
    const auto buffer = asio::dynamic_buffer(request);
    const size_t head = asio::read_until(stream, buffer, "\r\n\r\n", error);
    if (error) return;
    const size_t at = request.find("Content-Length: ");
    const size_t body = at < head ? std::stoul(request.substr(at + 16)) : 0;
    if (request.size() < head + body) {
      asio::read(stream, buffer, asio::transfer_exactly(head + body - request.size()), error);
    }
    Answer answer;
    {
      const std::lock_guard lock(mutex_);
      requests_.push_back(request);
      if (!answers_.empty()) answer = answers_.front();
      if (answers_.size() > 1) answers_.pop_front();
    }
    if (answer) asio::write(stream, asio::buffer(*answer), error);
  }

  static constexpr size_t kMostKept = 4;

  asio::io_context io_;
  std::optional<asio::ssl::context> tls_;
  asio::ip::tcp::acceptor acceptor_{io_,
                                    asio::ip::tcp::endpoint(asio::ip::address_v4::loopback(), 0)};
  std::deque<asio::ip::tcp::socket> kept_;  // so that those without an answer stay open
  std::mutex mutex_;
  std::deque<Answer> answers_;
  std::vector<std::string> requests_;
  std::atomic<bool> stopping_ = false;
  std::thread thread_;
};

}  // namespace portcullis::identity::test
