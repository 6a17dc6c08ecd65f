// Packets through the kernel's own IPsec (XFRM) instead of a dataplane. What is behind the gate is
// blocked in clear from the start, by policies that outlive this agent; the policies of a session
// count for more than these, and an association's end is in the kernel's hands.
#pragma once

#include <boost/asio/any_io_executor.hpp>
#include <boost/asio/steady_timer.hpp>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "control/peer/config.hpp"
#include "control/peer/datapath.hpp"
#include "control/peer/nat_ports.hpp"
#include "control/peer/xfrm_socket.hpp"

namespace portcullis::peer {

class XfrmPath : public Datapath {
 public:
  /// Adds an association and removes it again, to see whether this kernel and this process can;
  /// then blocks cleartext. Pairs of an earlier run stay until a session replaces them, as far as
  /// `config` still admits their selectors.
  static Result<std::unique_ptr<XfrmPath>> Open(const boost::asio::any_io_executor& executor,
                                                const PeerConfig& config);
  /// Removes all that any run of this agent has left: from then on nothing keeps cleartext back.
  static Result<void> Clear();

  boost::asio::awaitable<void> Run() override;
  void Stop() override;
  [[nodiscard]] bool ready() const override { return why_not_.empty(); }
  [[nodiscard]] std::string WhyNotReady() const override { return why_not_; }
  Result<Spi> ChooseSpi() override;
  boost::asio::awaitable<Result<void>> Install(SaPair pair) override;
  boost::asio::awaitable<Result<void>> Remove(std::vector<std::string> names) override;
  boost::asio::awaitable<Result<std::vector<std::string>>> Names() override;
  boost::asio::awaitable<Result<Traffic>> Read(std::string name) override;

 private:
  struct Pair {
    xfrm::SaId to_peer;
    xfrm::SaId to_gate;
    bool udp_encap = false;
  };
  struct Protection {
    std::string pair;  // that sends; empty: of an earlier run
    xfrm::Policies policies;
  };

  XfrmPath(const boost::asio::any_io_executor& executor, xfrm::Socket socket)
      : kernel_(std::move(socket)), pause_(executor) {}
  Result<void> Try(Algorithm algorithm, bool v4) const;
  Result<void> Begin(const PeerConfig& config);
  Result<void> ReadPolicies();
  [[nodiscard]] Result<std::vector<xfrm::OurSa>> OurSas() const;
  [[nodiscard]] xfrm::Policies Wanted() const;
  Result<void> Apply(const xfrm::Policies& wanted);
  Result<void> Put(const SaPair& pair);
  void Restore();
  void KeepNatOpen() const;
  [[nodiscard]] std::string NameOf(const xfrm::OurSa& sa) const;

  xfrm::Socket kernel_;
  boost::asio::steady_timer pause_;
  bool stopping_ = false;
  std::string why_not_;
  std::map<uint32_t, std::string> interfaces_;  // by reqid
  std::map<std::string, Pair> pairs_;           // of this run
  std::map<std::string, xfrm::SaId> left_;      // of an earlier one; each stands for itself
  std::map<uint32_t, Protection> protections_;  // by reqid
  xfrm::Policies blocks_;
  xfrm::Policies present_;       // what the kernel has of ours
  std::optional<NatPorts> nat_;  // with udp_encap
};

}  // namespace portcullis::peer
