// Capabilities, kernel, BPF and AF_XDP.
#include <bpf/bpf.h>
#include <fmt/format.h>
#include <linux/bpf.h>
#include <linux/if_xdp.h>
#include <linux/magic.h>
#include <sys/capability.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/statfs.h>
#include <sys/utsname.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstdio>
#include <memory>

#include "control/cli/host/check.hpp"

namespace portcullis::cli::host {
namespace {

constexpr const char* kBpffs = "/sys/fs/bpf";

Finding KernelVersion() {
  utsname name{};
  uname(&name);
  int major = 0;
  int minor = 0;
  std::sscanf(name.release, "%d.%d", &major, &minor);  // NOLINT(cert-err34-c): 0.0 is too old
  const auto version = std::pair(major, minor);
  const std::string fix = "Debian 12's kernel (6.1) or later: apt install linux-image-amd64";
  if (version < std::pair(5, 9)) {  // bpf_link for XDP
    return Missing("kernel", std::string(name.release) + ", older than 5.9", fix);
  }
  if (version < std::pair(5, 15)) {
    return Warn("kernel", std::string(name.release) + ", older than what we test on", fix);
  }
  return Ok("kernel", name.release);
}

Finding XdpProgram() {
  const int program = LoadXdpProgram();
  if (program < 0) {
    return Missing("XDP programs", "the kernel refuses one: " + Reason(-program),
                   program == -EPERM ? "run as root, or grant CAP_BPF and CAP_NET_ADMIN"
                                     : "a kernel with CONFIG_BPF_SYSCALL");
  }
  close(program);
  return Ok("XDP programs", "the kernel loads one");
}

Finding XskMap() {
  const int map = bpf_map_create(BPF_MAP_TYPE_XSKMAP, "pc_check", 4, 4, 1, nullptr);
  if (map < 0) {
    return Missing("XSKMAP", "the kernel refuses one: " + Reason(errno),
                   errno == EPERM ? "run as root, or grant CAP_BPF and CAP_NET_ADMIN"
                                  : "a kernel with CONFIG_XDP_SOCKETS");
  }
  close(map);
  return Ok("XSKMAP", "the kernel makes one");
}

Finding BpfFilesystem() {
  struct statfs info {};
  if (statfs(kBpffs, &info) != 0 || info.f_type != BPF_FS_MAGIC) {
    return Missing("bpffs", fmt::format("{} is no BPF file system", kBpffs),
                   fmt::format("mount -t bpf bpf {}", kBpffs));
  }
  const int map = bpf_map_create(BPF_MAP_TYPE_ARRAY, "pc_check", 4, 4, 1, nullptr);
  if (map < 0) {
    return Missing("bpffs", "mounted; no map could be made to try it: " + Reason(errno),
                   "run as root, or grant CAP_BPF");
  }
  const std::string pin = fmt::format("{}/portcullis-check-{}", kBpffs, getpid());
  const int error = bpf_obj_pin(map, pin.c_str()) == 0 ? 0 : errno;
  if (error == 0) unlink(pin.c_str());
  close(map);
  if (error != 0) {
    return Missing("bpffs", fmt::format("nothing can be pinned in {}: {}", kBpffs, Reason(error)),
                   fmt::format("run as root, or: chown USER {}", kBpffs));
  }
  return Ok("bpffs", fmt::format("{} is mounted and writable", kBpffs));
}

// The memory for packets has to be registered, which is where the limit on locked memory strikes.
Finding XdpSocket() {
  const std::string what = "AF_XDP sockets";
  const int fd = socket(AF_XDP, SOCK_RAW | SOCK_CLOEXEC, 0);
  if (fd < 0) {
    return Missing(
        what, "the kernel refuses one: " + Reason(errno),
        errno == EPERM ? "run as root, or grant CAP_NET_RAW" : "a kernel with CONFIG_XDP_SOCKETS");
  }
  constexpr size_t kBytes = 4U << 20U;
  constexpr unsigned kChunk = 4096;
  void* memory = mmap(nullptr, kBytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  xdp_umem_reg umem{};
  umem.addr = reinterpret_cast<uint64_t>(memory);
  umem.len = kBytes;
  umem.chunk_size = kChunk;
  const int error = memory == MAP_FAILED                                             ? ENOMEM
                    : setsockopt(fd, SOL_XDP, XDP_UMEM_REG, &umem, sizeof umem) == 0 ? 0
                                                                                     : errno;
  close(fd);
  if (memory != MAP_FAILED) munmap(memory, kBytes);
  if (error != 0) {
    return Missing(what, "memory for packets cannot be registered: " + Reason(error),
                   "raise the limit of locked memory (LimitMEMLOCK=infinity), or grant "
                   "CAP_IPC_LOCK");
  }
  return Ok(what, "one was made, with memory for packets");
}

}  // namespace

int LoadXdpProgram() {
  // r0 = XDP_PASS; exit
  const std::array<bpf_insn, 2> program = {
      {{.code = BPF_ALU64 | BPF_MOV | BPF_K, .dst_reg = 0, .src_reg = 0, .off = 0, .imm = XDP_PASS},
       {.code = BPF_JMP | BPF_EXIT, .dst_reg = 0, .src_reg = 0, .off = 0, .imm = 0}}};
  const int fd =
      bpf_prog_load(BPF_PROG_TYPE_XDP, "pc_check", "GPL", program.data(), program.size(), nullptr);
  return fd < 0 ? -errno : fd;
}

std::vector<Finding> CheckPrivileges() {
  struct Needed {
    cap_value_t capability;
    const char* name;
    const char* why;
  };
  constexpr auto kNeeded = std::to_array<Needed>({
      {CAP_NET_ADMIN, "CAP_NET_ADMIN", "attach XDP, follow routes and neighbours"},
      {CAP_NET_RAW, "CAP_NET_RAW", "open AF_XDP sockets"},
      {CAP_BPF, "CAP_BPF", "load the XDP program"},
      {CAP_IPC_LOCK, "CAP_IPC_LOCK", "lock keys and packet memory"},
  });
  const std::unique_ptr<std::remove_pointer_t<cap_t>, int (*)(void*)> held(cap_get_proc(),
                                                                           cap_free);
  std::vector<Finding> findings;
  for (const Needed& needed : kNeeded) {
    cap_flag_value_t value = CAP_CLEAR;
    cap_get_flag(held.get(), needed.capability, CAP_EFFECTIVE, &value);
    findings.push_back(
        value == CAP_SET
            ? Ok(needed.name, "held")
            : Missing(needed.name, "not held",
                      fmt::format("run as root, or in the unit: AmbientCapabilities={} (to {})",
                                  needed.name, needed.why)));
  }
  return findings;
}

std::vector<Finding> CheckKernel() {
  return {KernelVersion(), XdpProgram(), XskMap(), BpfFilesystem(), XdpSocket()};
}

}  // namespace portcullis::cli::host
