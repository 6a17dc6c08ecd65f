// Keeps an issuer's key set fresh in the background. Nobody waits for it: tokens are checked
// against the last good set, which a failed fetch leaves as it is until it is too old. A token that
// names an unknown key brings the next fetch forward, but never nearer to the last one than
// `refresh_gap`, so that invented names cannot make this gate a burden to its issuer.
#pragma once

#include <atomic>
#include <boost/asio/any_io_executor.hpp>
#include <boost/asio/awaitable.hpp>
#include <boost/asio/steady_timer.hpp>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/result.hpp"
#include "control/identity/token/https_client.hpp"
#include "control/identity/token/issuer.hpp"

namespace portcullis::identity {

class KeyFetcher : public std::enable_shared_from_this<KeyFetcher> {
 public:
  struct News {
    std::vector<std::string> vanished;  // kids whose grants must end
    std::vector<std::string> notes;     // keys that were left out, and why
  };
  /// Called on the executor after each fetch. An error is for operators: the last good set stays.
  using Tell = std::function<void(const Result<News>&)>;

  /// `issuer`'s configuration has passed Check(). `executor` has one thread or is a strand. Becomes
  /// the one whom `issuer` tells of wanted keys, so it is made before tokens are verified.
  static Result<std::shared_ptr<KeyFetcher>> Create(const boost::asio::any_io_executor& executor,
                                                    const std::shared_ptr<Issuer>& issuer,
                                                    Tell tell);

  /// The first fetch is made at once. Runs until Stop().
  boost::asio::awaitable<void> Run();
  /// On the executor: an operator asks, whom no gap between two fetches holds back.
  void FetchNow();
  /// On the executor. A fetch under way ends by itself, in `fetch_timeout` at most, and is dropped.
  void Stop();

 private:
  KeyFetcher(const boost::asio::any_io_executor& executor, std::shared_ptr<Issuer> issuer,
             Tell tell, std::optional<HttpsClient> web);
  void Want();
  boost::asio::awaitable<Result<std::string>> Fetch();
  Result<News> Take(const Result<std::string>& text, const Moment& started);

  boost::asio::any_io_executor executor_;
  std::shared_ptr<Issuer> issuer_;
  Tell tell_;
  std::optional<HttpsClient> web_;  // nothing: a file
  boost::asio::steady_timer pause_;
  std::atomic<bool> wanted_ = false;
  bool now_ = false;
  bool stopping_ = false;
};

}  // namespace portcullis::identity
