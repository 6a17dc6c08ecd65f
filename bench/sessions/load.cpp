#include "bench/sessions/load.hpp"

#include <fmt/format.h>
#include <openssl/rand.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <ctime>
#include <map>
#include <mutex>
#include <thread>

#include "control/guard/session/keys.hpp"
#include "control/peer/offer.hpp"

namespace portcullis::bench {

using Clock = std::chrono::steady_clock;
using nlohmann::json;

namespace {

constexpr const char* kSessions = "/session/v1/sessions";

double Milliseconds(Clock::duration time) {
  return std::chrono::duration<double, std::milli>(time).count();
}

class Tally {
 public:
  void Add(const Result<void>& came, double ms) {
    const std::lock_guard lock(mutex_);
    if (came) {
      took_.push_back(ms);
    } else {
      ++failed_[came.error().Text()];
    }
  }
  json Told(double seconds) {
    std::ranges::sort(took_);
    const auto at = [&](double share) {
      if (took_.empty()) return 0.0;
      const auto last = static_cast<double>(took_.size() - 1);
      return took_[static_cast<size_t>(share * last)];
    };
    return {{"done", took_.size()},
            {"failed", failed_},
            {"seconds", seconds},
            {"ms", {{"p50", at(0.5)}, {"p99", at(0.99)}, {"max", at(1)}}}};
  }

 private:
  std::mutex mutex_;
  std::vector<double> took_;
  std::map<std::string, size_t> failed_;
};

// Each peer's turn comes at its time, or when a thread is free.
json Run(const Load& load, size_t peers, const std::function<Result<void>(size_t peer)>& action) {
  Tally tally;
  std::atomic<size_t> next{0};
  const auto started = Clock::now();
  const auto work = [&] {
    for (size_t i = next++; i < load.count; i = next++) {
      const double due = load.seconds * static_cast<double>(i) / static_cast<double>(load.count);
      std::this_thread::sleep_until(started + std::chrono::duration_cast<Clock::duration>(
                                                  std::chrono::duration<double>(due)));
      const auto begun = Clock::now();
      const auto came = action((load.first + i) % peers);
      tally.Add(came, Milliseconds(Clock::now() - begun));
    }
  };
  {
    std::vector<std::jthread> threads;
    for (unsigned t = 0; t < load.at_once; ++t) threads.emplace_back(work);
  }
  return tally.Told(std::chrono::duration<double>(Clock::now() - started).count());
}

std::string Request(const std::string& target, const std::string& headers,
                    const std::string& body) {
  return fmt::format("POST {} HTTP/1.1\r\nHost: {}\r\n{}Content-Length: {}\r\n\r\n{}", target,
                     kGateName, headers, body.size(), body);
}

Result<void> Expect(const Result<Reply>& reply, unsigned status) {
  if (!reply) return tl::unexpected(reply.error());
  if (reply->status == status) return {};
  const auto problem = json::parse(reply->body, nullptr, false);
  const std::string kind = problem.is_object() ? problem.value("type", "") : "";
  return Fail(ErrorKind::kForbidden, fmt::format("{} {}", reply->status, kind));
}

peer::Asked Wish(const Peer& who, bool renew) {
  static std::atomic<uint32_t> next_spi{0x01000000};
  peer::Asked asked;
  asked.interface = kInterface;
  if (renew) asked.session = who.held.id;
  if (renew) asked.last_generation = who.held.generation;
  asked.algorithms = {Algorithm::aes_128_gcm_16};
  asked.selectors = {guard::SessionSelector{}};  // anything: policy decides
  asked.to_peer = Spi{next_spi++};
  RAND_bytes(asked.nonce.data(), static_cast<int>(asked.nonce.size()));
  asked.gate_identity = kGateName;
  asked.peer_identity = who.name + ".example";
  return asked;
}

std::string Hex(const Secret& key) {
  std::string text;
  for (const uint8_t byte : key.bytes()) text += fmt::format("{:02x}", byte);
  return text;
}

// As a peer has to, whether anybody wants to know the keys or not.
Result<json> Keys(SSL* connection, guard::KeyContext& agreed) {
  agreed.mode = guard::Mode::certificate;
  agreed.tls_version = static_cast<uint16_t>(SSL_version(connection));
  const auto master = guard::MasterKey::Export(connection, agreed);
  if (!master) return tl::unexpected(master.error());
  const auto to_gate = master->Expand(Direction::inbound, agreed.to_gate, agreed.algorithm);
  const auto to_peer = master->Expand(Direction::outbound, agreed.to_peer, agreed.algorithm);
  if (!to_gate) return tl::unexpected(to_gate.error());
  if (!to_peer) return tl::unexpected(to_peer.error());
  return json{{"spi_to_gate", Value(agreed.to_gate)},
              {"key_to_gate", Hex(*to_gate)},
              {"spi_to_peer", Value(agreed.to_peer)},
              {"key_to_peer", Hex(*to_peer)}};
}

}  // namespace

json Handshakes(const World& world, const Load& load) {
  const auto context = NewPeerContext();
  return Run(load, world.peers.size(), [&](size_t i) -> Result<void> {
    auto connection = Connection::Open(load.gate, context.get(), world.peers[i].credential);
    if (!connection) return tl::unexpected(connection.error());
    return connection->Close();
  });
}

json Sessions(World& world, const Load& load, const std::function<void(const json&)>& tell) {
  const auto context = NewPeerContext();
  return Run(load, world.peers.size(), [&](size_t i) -> Result<void> {
    Peer& who = world.peers[i];
    auto connection = Connection::Open(load.gate, context.get(), who.credential);
    if (!connection) return tl::unexpected(connection.error());
    const peer::Asked asked = Wish(who, load.renew);
    const auto answer = connection->Ask(
        Request(kSessions,
                fmt::format("Authorization: Bearer {}\r\nContent-Type: application/json\r\n",
                            world.Token(i)),
                peer::RequestText(asked, {.initial_contact = load.initial_contact})));
    if (auto opened = Expect(answer, 201); !opened) return opened;
    auto offer = peer::ReadOffer(answer->body, asked);
    if (!offer) return tl::unexpected(offer.error());
    auto keys = Keys(connection->ssl(), offer->agreed);
    if (!keys) return tl::unexpected(keys.error());
    if (load.tell_every > 0 && i % load.tell_every == 0) {
      (*keys)["peer"] = i;
      tell(*keys);
    }
    const std::string& id = offer->agreed.session_id;
    if (auto confirmed = Expect(
            connection->Ask(Request(fmt::format("{}/{}/confirm", kSessions, id), "", "")), 204);
        !confirmed) {
      return confirmed;
    }
    who.held = {id, offer->agreed.generation};
    return {};
  });
}

json VerifyTokens(const World& world, size_t count) {
  const std::string token = world.Token(0);
  const std::string input = token.substr(0, token.rfind('.'));
  const std::string signature = world.token_key().EvpSignature(identity::Algorithm::es256, input);
  const auto cpu = [] {
    timespec time{};
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &time);
    return static_cast<double>(time.tv_sec) + static_cast<double>(time.tv_nsec) / 1e9;
  };
  const double before = cpu();
  size_t good = 0;
  for (size_t i = 0; i < count; ++i) {
    EVP_MD_CTX* check = EVP_MD_CTX_new();
    EVP_DigestVerifyInit(check, nullptr, EVP_sha256(), nullptr, world.token_key().evp());
    const int verified =
        EVP_DigestVerify(check, identity::Bytes(signature).data(), signature.size(),
                         identity::Bytes(input).data(), input.size());
    if (verified == 1) ++good;
    EVP_MD_CTX_free(check);
  }
  const double seconds = cpu() - before;
  return {{"done", good}, {"seconds", seconds}};
}

}  // namespace portcullis::bench
