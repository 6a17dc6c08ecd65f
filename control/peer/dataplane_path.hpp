// Packets through a portcullis-dataplane in the peer role on this host: a policy with one peer, the
// gate, which admits what the configuration admits, and the pairs of sessions.
#pragma once

#include <boost/asio/any_io_executor.hpp>
#include <set>
#include <string>
#include <vector>

#include "control/events/events.hpp"
#include "control/link/link.hpp"
#include "control/peer/datapath.hpp"

namespace portcullis::peer {

class DataplanePath : public Datapath {
 public:
  /// `admitted`: of all interfaces together.
  DataplanePath(const boost::asio::any_io_executor& executor, const std::string& socket,
                std::vector<guard::SessionSelector> admitted);

  boost::asio::awaitable<void> Run() override;
  void Stop() override { link_.Stop(); }
  [[nodiscard]] bool ready() const override { return link_.ready(); }
  [[nodiscard]] std::string WhyNotReady() const override { return link_.error(); }
  Result<Spi> ChooseSpi() override;
  boost::asio::awaitable<Result<void>> Install(SaPair pair) override;
  boost::asio::awaitable<Result<void>> Remove(std::vector<std::string> names) override;
  boost::asio::awaitable<Result<std::vector<std::string>>> Names() override;
  boost::asio::awaitable<Result<Traffic>> Read(std::string name) override;

 private:
  boost::asio::awaitable<Result<void>> Reconcile(steer::HelloReply hello);
  boost::asio::awaitable<Result<std::vector<steer::SaState>>> List(std::vector<std::string> ids);
  [[nodiscard]] steer::ApplySnapshot Policy(uint64_t generation) const;

  Events events_;
  DataplaneLink link_;
  std::vector<guard::SessionSelector> admitted_;
  std::string incarnation_;  // that has our policy
  std::set<uint32_t> spis_;  // inbound, as far as we know: what is there, and what is chosen
};

}  // namespace portcullis::peer
