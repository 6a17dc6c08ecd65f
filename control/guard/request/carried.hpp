// Connections that came in ESP (protection tls+esp): each ends with the session whose SAs carried
// it, whether or not anything is asked on it. Control knows the sessions; so it is asked about each
// connection when something has changed. What is asked on one, its permit decides besides.
#pragma once

#include <boost/asio/any_io_executor.hpp>
#include <boost/asio/awaitable.hpp>
#include <boost/asio/steady_timer.hpp>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>

#include "control/admission/admission.pb.h"
#include "control/guard/control_link.hpp"
#include "control/guard/request/permits.hpp"

namespace portcullis::guard {

/// One thread.
class CarriedConnections {
 public:
  /// While it lives, the connection is looked after. It stays where it is, and may outlive the
  /// rest.
  class Place {
   public:
    /// `close` ends the connection, and comes back before this place does.
    Place(CarriedConnections& all, admission::Stay stay, std::function<void()> close);
    ~Place();
    Place(const Place&) = delete;
    Place& operator=(const Place&) = delete;

   private:
    friend class CarriedConnections;
    std::shared_ptr<std::map<uint64_t, Place*>> places_;
    admission::Stay stay_;
    std::function<void()> close_;
    uint64_t number_;
  };

  /// Both outlive this.
  CarriedConnections(const boost::asio::any_io_executor& executor, ControlLink& control,
                     const Permits& permits)
      : control_(control), permits_(permits), pause_(executor) {}

  /// Until Stop(), which comes before this goes.
  boost::asio::awaitable<void> Run();
  void Stop();

 private:
  boost::asio::awaitable<bool> LookAtAll();

  ControlLink& control_;
  const Permits& permits_;
  std::shared_ptr<std::map<uint64_t, Place*>> places_ =  // by number
      std::make_shared<std::map<uint64_t, Place*>>();
  uint64_t last_ = 0;  // number
  boost::asio::steady_timer pause_;
  bool stopping_ = false;
};

}  // namespace portcullis::guard
