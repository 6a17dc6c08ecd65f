#include "control/peer/xfrm_socket.hpp"

#include <sys/socket.h>
#include <sys/time.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

namespace portcullis::peer::xfrm {

namespace {

constexpr size_t kBuffer = 65536;  // the kernel's dumps come in pieces of at most 32 KiB

// Behind an error's nlmsgerr, and without the request itself (NETLINK_CAP_ACK).
std::string WordsOf(std::span<const uint8_t> attributes) {
  while (attributes.size() >= sizeof(nlattr)) {
    nlattr header{};
    std::memcpy(&header, attributes.data(), sizeof(header));
    if (header.nla_len <= sizeof(header) || header.nla_len > attributes.size()) break;
    if (header.nla_type == NLMSGERR_ATTR_MSG) {
      return {reinterpret_cast<const char*>(attributes.data()) + sizeof(header),
              header.nla_len - sizeof(header) - 1};  // it ends in a zero
    }
    attributes = attributes.subspan(std::min<size_t>(NLA_ALIGN(header.nla_len), attributes.size()));
  }
  return {};
}

// 0: an acknowledgement.
KernelError ErrorOf(std::span<const uint8_t> message, uint16_t flags) {
  nlmsgerr error{};
  const auto body = message.subspan(NLMSG_HDRLEN);
  if (body.size() < sizeof(error.error)) return {EBADMSG, {}};
  std::memcpy(&error.error, body.data(), sizeof(error.error));
  const bool words = (flags & NLM_F_ACK_TLVS) != 0 && body.size() > sizeof(error);
  return {-error.error, words ? WordsOf(body.subspan(sizeof(error))) : ""};
}

}  // namespace

std::string KernelError::Text() const {
  const std::string text = std::strerror(number);
  return words.empty() ? text : text + ": " + words;
}

Socket::Socket(int fd) : fd_(fd), buffer_(kBuffer) {}

Result<Socket> Socket::Open() {
  const int fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_XFRM);
  if (fd < 0) {
    return Fail(ErrorKind::kUnavailable,
                fmt::format("the kernel's IPsec cannot be driven: opening a NETLINK_XFRM socket "
                            "was tried: {}; expected a kernel with CONFIG_XFRM_USER (module "
                            "xfrm_user), and AF_NETLINK among the unit's RestrictAddressFamilies",
                            std::strerror(errno)));
  }
  Socket opened(fd);
  // Else the kernel sends a refused request back, keys and all.
  const int on = 1;
  if (setsockopt(fd, SOL_NETLINK, NETLINK_CAP_ACK, &on, sizeof(on)) != 0) {
    return Fail(ErrorKind::kUnavailable,
                fmt::format("NETLINK_CAP_ACK is refused: {}", std::strerror(errno)));
  }
  setsockopt(fd, SOL_NETLINK, NETLINK_EXT_ACK, &on, sizeof(on));  // words only
  const timeval patience{5, 0};
  setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience));
  return opened;
}

// `each` sees what is of this answer; `error` and `over` say how it ended.
void Socket::Take(std::span<const uint8_t> rest,
                  const std::function<void(std::span<const uint8_t>)>& each, KernelError& error,
                  bool& over) const {
  while (!over && rest.size() >= sizeof(nlmsghdr)) {
    nlmsghdr header{};
    std::memcpy(&header, rest.data(), sizeof(header));
    if (header.nlmsg_len < sizeof(header) || header.nlmsg_len > rest.size()) {
      error = {EBADMSG, {}};
      over = true;
      return;
    }
    const auto one = rest.first(header.nlmsg_len);
    rest = rest.subspan(std::min<size_t>(NLMSG_ALIGN(header.nlmsg_len), rest.size()));
    if (header.nlmsg_seq != sequence_) continue;  // of a request that was given up
    // Such a list may lack something; it goes on to its end all the same.
    if ((header.nlmsg_flags & NLM_F_DUMP_INTR) != 0) error = {EINTR, {}};
    over = header.nlmsg_type == NLMSG_DONE || (header.nlmsg_flags & NLM_F_MULTI) == 0;
    if (header.nlmsg_type == NLMSG_ERROR) {
      error = ErrorOf(one, header.nlmsg_flags);
      over = true;
    } else if (header.nlmsg_type != NLMSG_DONE && each) {
      each(one);
    }
  }
}

Answer<void> Socket::Ask(Message message,
                         const std::function<void(std::span<const uint8_t>)>& each) const {
  message.Number(++sequence_);
  const auto bytes = message.bytes();
  KernelError error;
  bool over = false;
  if (send(fd_.get(), bytes.data(), bytes.size(), 0) < 0)
    return tl::unexpected(KernelError{errno, {}});
  while (!over) {
    const ssize_t got = recv(fd_.get(), buffer_.data(), buffer_.size(), MSG_TRUNC);
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return tl::unexpected(KernelError{errno, {}});
    if (static_cast<size_t>(got) > buffer_.size()) {
      Wipe(std::span(buffer_));
      return tl::unexpected(KernelError{EMSGSIZE, {}});
    }
    const auto whole = std::span(buffer_).first(static_cast<size_t>(got));
    Take(whole, each, error, over);
    Wipe(whole);
  }
  if (error.number != 0) return tl::unexpected(error);
  return {};
}

}  // namespace portcullis::peer::xfrm
