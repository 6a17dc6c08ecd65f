// Interfaces. What can be tried is tried by a child process in a network namespace of its own, so
// that the host never sees it.
#include <bpf/bpf.h>
#include <fcntl.h>
#include <fmt/format.h>
#include <linux/if_link.h>
#include <linux/if_tun.h>
#include <linux/if_xdp.h>
#include <net/if.h>
#include <netlink/netlink.h>
#include <netlink/route/link/veth.h>
#include <sched.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstring>
#include <sstream>

#include "control/cli/host/check.hpp"

namespace portcullis::cli::host {
namespace {

Finding Tap() {
  const int fd = open("/dev/net/tun", O_RDWR | O_CLOEXEC);
  if (fd < 0) {
    return Warn("TAP", "/dev/net/tun: " + Reason(errno),
                "modprobe tun (needed for net_tap ports and exception ports only)");
  }
  ifreq request{};
  std::strncpy(request.ifr_name, "pcchk%d", sizeof request.ifr_name - 1);
  request.ifr_flags = IFF_TAP | IFF_NO_PI;
  const int error = ioctl(fd, TUNSETIFF, &request) == 0 ? 0 : errno;
  close(fd);
  if (error == 0) return Ok("TAP", "one was made");
  return Warn("TAP", "none can be made: " + Reason(error), "run as root, or grant CAP_NET_ADMIN");
}

bool SetUp(const char* name) {
  const int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
  ifreq request{};
  std::strncpy(request.ifr_name, name, sizeof request.ifr_name - 1);
  bool up = ioctl(fd, SIOCGIFFLAGS, &request) == 0;
  request.ifr_flags |= IFF_UP;
  up = up && ioctl(fd, SIOCSIFFLAGS, &request) == 0;
  close(fd);
  return up;
}

// 0, or the error of the first step that fails, named in `step`.
int BindXdpSocket(unsigned interface, std::string& step) {
  constexpr size_t kFrames = 64;
  constexpr unsigned kChunk = 4096;
  const size_t bytes = kFrames * kChunk;
  const int fd = socket(AF_XDP, SOCK_RAW | SOCK_CLOEXEC, 0);
  void* memory = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  xdp_umem_reg umem{};
  umem.addr = reinterpret_cast<uint64_t>(memory);
  umem.len = bytes;
  umem.chunk_size = kChunk;
  const int entries = kFrames;
  sockaddr_xdp address{};
  address.sxdp_family = AF_XDP;
  address.sxdp_flags = XDP_COPY;
  address.sxdp_ifindex = interface;
  const auto option = [&](int name, const void* value, socklen_t size) {
    return setsockopt(fd, SOL_XDP, name, value, size) == 0;
  };
  int error = 0;
  if (fd < 0 || memory == MAP_FAILED || !option(XDP_UMEM_REG, &umem, sizeof umem) ||
      !option(XDP_UMEM_FILL_RING, &entries, sizeof entries) ||
      !option(XDP_UMEM_COMPLETION_RING, &entries, sizeof entries) ||
      !option(XDP_RX_RING, &entries, sizeof entries)) {
    error = errno;
    step = "setting up a socket";
  } else if (bind(fd, reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0) {
    error = errno;
    step = "binding a socket to it";
  }
  if (fd >= 0) close(fd);
  if (memory != MAP_FAILED) munmap(memory, bytes);
  return error;
}

std::vector<Finding> VethAndXdp() {
  constexpr const char* kFirst = "pcchk0";
  constexpr const char* kSecond = "pcchk1";
  nl_sock* netlink = nl_socket_alloc();
  const int connected = nl_connect(netlink, NETLINK_ROUTE);
  const int made =
      connected < 0 ? connected : rtnl_link_veth_add(netlink, kFirst, kSecond, getpid());
  nl_socket_free(netlink);
  if (made < 0) {
    return {Warn("veth", std::string("no pair can be made: ") + nl_geterror(made),
                 "modprobe veth (needed by the demo, the tests and `local` ports)")};
  }
  std::vector<Finding> findings = {Ok("veth", "a pair was made")};
  const std::string what = "XDP and AF_XDP on veth";
  const unsigned index = if_nametoindex(kFirst);
  const int program = LoadXdpProgram();
  if (!SetUp(kFirst) || !SetUp(kSecond) || index == 0 || program < 0) {
    findings.push_back(Missing(what,
                               "could not be tried: " + Reason(program < 0 ? -program : errno),
                               "see the lines above"));
    return findings;
  }
  const int link = bpf_link_create(program, static_cast<int>(index), BPF_XDP, nullptr);
  if (link < 0) {
    findings.push_back(Missing(what, "a program cannot be attached: " + Reason(errno),
                               "a kernel with bpf_link for XDP (5.9)"));
    return findings;
  }
  std::string step;
  const int error = BindXdpSocket(index, step);
  findings.push_back(error == 0
                         ? Ok(what, "a program was attached and a socket bound")
                         : Missing(what, fmt::format("{} fails: {}", step, Reason(error)),
                                   "a kernel with CONFIG_XDP_SOCKETS; CAP_NET_RAW, CAP_IPC_LOCK"));
  return findings;
}

// Findings through a pipe: fields end in 0x1f, findings in 0x1e, which occur in no text of ours.
constexpr char kFieldEnd = '\x1f';
constexpr char kFindingEnd = '\x1e';

std::string Pack(const std::vector<Finding>& findings) {
  std::string text;
  for (const Finding& f : findings) {
    for (const std::string& field :
         {f.what, std::to_string(static_cast<int>(f.status)), f.found, f.fix}) {
      text += field + kFieldEnd;
    }
    text += kFindingEnd;
  }
  return text;
}

std::vector<Finding> Unpack(const std::string& text) {
  std::vector<Finding> findings;
  std::istringstream all(text);
  for (std::string one; std::getline(all, one, kFindingEnd);) {
    std::istringstream fields(one);
    Finding finding;
    std::string status;
    std::getline(fields, finding.what, kFieldEnd);
    std::getline(fields, status, kFieldEnd);
    std::getline(fields, finding.found, kFieldEnd);
    std::getline(fields, finding.fix, kFieldEnd);
    finding.status = static_cast<Status>(std::stoi(status));
    findings.push_back(std::move(finding));
  }
  return findings;
}

std::vector<Finding> InNewNamespace() {
  if (unshare(CLONE_NEWNET) != 0) {
    return {Warn("veth, TAP, XDP on an interface",
                 "not tried: no network namespace can be made: " + Reason(errno),
                 "run check-host as root")};
  }
  std::vector<Finding> findings = VethAndXdp();
  findings.push_back(Tap());
  return findings;
}

}  // namespace

std::vector<Finding> CheckNetwork() {
  std::array<int, 2> ends{};
  if (pipe2(ends.data(), O_CLOEXEC) != 0) return {};
  const pid_t child = fork();
  if (child == 0) {
    const std::string text = Pack(InNewNamespace());
    const bool written =
        write(ends[1], text.data(), text.size()) == static_cast<ssize_t>(text.size());
    _exit(written ? 0 : 1);
  }
  close(ends[1]);
  std::string text;
  std::array<char, 4096> chunk{};
  for (ssize_t got = 0; (got = read(ends[0], chunk.data(), chunk.size())) > 0;) {
    text.append(chunk.data(), static_cast<size_t>(got));
  }
  close(ends[0]);
  waitpid(child, nullptr, 0);
  return Unpack(text);
}

}  // namespace portcullis::cli::host
