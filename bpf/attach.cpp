// Attaching by pinned bpf_link and updating in place. The order of steps is what keeps a port
// closed: who holds the interface is known before anything changes, the program is loaded with its
// maps before the link changes, and the link changes in one call.
#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <dirent.h>
#include <fcntl.h>
#include <linux/if_link.h>
#include <net/if.h>

#include <cerrno>

#include "bpf/handles.hpp"
#include "bpf/object.hpp"
#include "bpf/pins.hpp"
#include "bpf/portcullis_xdp.skel.h"

namespace portcullis {
namespace {

struct Attached {
  uint32_t program = 0;  // 0: none
  std::string mode;
};

Result<Attached> Query(int interface_index, const std::string& interface) {
  LIBBPF_OPTS(bpf_xdp_query_opts, found);
  if (const int error = bpf_xdp_query(interface_index, 0, &found); error != 0) {
    return SystemError("cannot ask which XDP program is on " + interface, error);
  }
  for (const auto& [id, mode] :
       {std::pair{found.drv_prog_id, "native"}, std::pair{found.skb_prog_id, "generic"},
        std::pair{found.hw_prog_id, "offloaded"}}) {
    if (id != 0) return Attached{id, mode};
  }
  return Attached{found.prog_id, found.prog_id != 0 ? "unknown" : ""};
}

std::string ProgramName(uint32_t id) {
  const Descriptor program(bpf_prog_get_fd_by_id(id));
  bpf_prog_info info{};
  uint32_t length = sizeof(info);
  if (!program || bpf_obj_get_info_by_fd(program.get(), &info, &length) != 0) return "unnamed";
  return info.name[0] != 0 ? info.name : "unnamed";
}

tl::unexpected<Error> Conflict(std::string message, std::string expected, std::string found) {
  return tl::unexpected(
      Error{ErrorKind::kConflict, std::move(message), {}, std::move(expected), std::move(found)});
}

/// Somebody else's program is on the interface.
tl::unexpected<Error> Foreign(const Attached& attached, const std::string& interface) {
  const std::string name = ProgramName(attached.program);
  std::string message =
      "there is an XDP program on " + interface + " that is not this port's, and a port has one";
  std::string remedy = "remove it: ip link set dev " + interface + " xdp" +
                       (attached.mode == "generic" ? "generic" : "") +
                       " off, or `bpftool link` when it was attached by a link";
  if (name == "xdp_dispatcher") {
    message =
        "libxdp's dispatcher is on " + interface +
        ", and this port does not join it: AF_XDP sockets adopt one program, by its name, and not "
        "a dispatcher's member; and whoever may load programs can take a member out, which would "
        "open the port";
    remedy = "xdp-loader status " + interface +
             " says what is in it; move that to another interface, or drop it: xdp-loader unload " +
             interface + " --all";
  }
  return Conflict(std::move(message), "no XDP program",
                  "'" + name + "', id " + std::to_string(attached.program) + ", mode " +
                      attached.mode + " (" + remedy + ")");
}

/// The link that an earlier run pinned for this interface; none when there is nothing on it.
/// Errors: somebody else's program is; or the pinned link is another interface's.
Result<Descriptor> FindLink(const std::string& pin, int index, const std::string& interface) {
  const auto attached = Query(index, interface);
  if (!attached) return tl::unexpected(attached.error());
  Descriptor link(bpf_obj_get(pin.c_str()));
  if (!link && errno != ENOENT) return SystemError("cannot open " + pin, errno);
  bpf_link_info info{};
  uint32_t length = sizeof(info);
  if (link &&
      (bpf_obj_get_info_by_fd(link.get(), &info, &length) != 0 || info.type != BPF_LINK_TYPE_XDP)) {
    return Conflict(pin + " is not an XDP link", "what this program pinned itself",
                    "something else: remove it");
  }
  if (link &&
      info.xdp.ifindex == 0) {  // its interface is gone, so it holds nothing closed any more
    unlink(pin.c_str());
    link = Descriptor();
  }
  if (!link && attached->program != 0) return Foreign(*attached, interface);
  if (!link) return link;
  // Two network namespaces may use one index, so that the index alone proves nothing.
  if (info.xdp.ifindex != static_cast<uint32_t>(index) || attached->program != info.prog_id) {
    char name[IF_NAMESIZE] = "?";
    if_indextoname(info.xdp.ifindex, name);
    return Conflict(
        pin + " keeps another interface closed, and moving it would open that one",
        "the link of " + interface + " (index " + std::to_string(index) + ")",
        "interface index " + std::to_string(info.xdp.ifindex) + " (" + name +
            " if it is in this network namespace): detach that port first, or use another instance "
            "or port name");
  }
  return link;
}

Result<void> AttachNew(const std::string& pin, int program, int index,
                       const std::string& interface) {
  int link_fd = -1;
  for (const uint32_t mode : {XDP_FLAGS_DRV_MODE, XDP_FLAGS_SKB_MODE}) {
    LIBBPF_OPTS(bpf_link_create_opts, options, .flags = mode);
    link_fd = bpf_link_create(program, index, BPF_XDP, &options);
    if (link_fd >= 0 || errno == EPERM) break;
  }
  const int error = errno;
  const Descriptor link(link_fd);
  if (!link) return SystemError("cannot attach the XDP program to " + interface, error);
  if (bpf_obj_pin(link.get(), pin.c_str()) != 0) {
    return SystemError("cannot pin the link at " + pin, errno);
  }
  return {};
}

/// For a port whose program cannot be trusted or loaded: nothing passes, not even to the host.
Result<void> Shut(const std::string& pin, int index, const std::string& interface) {
  const bpf_insn drop_all[] = {{.code = BPF_ALU64 | BPF_MOV | BPF_K, .imm = XDP_DROP},
                               {.code = BPF_JMP | BPF_EXIT}};
  // A link takes only programs of one attach type, so this has libbpf's for SEC("xdp").
  LIBBPF_OPTS(bpf_prog_load_opts, options, .expected_attach_type = BPF_XDP);
  const Descriptor program(bpf_prog_load(BPF_PROG_TYPE_XDP, "portcullis_shut", "GPL", drop_all,
                                         std::size(drop_all), &options));
  if (!program) return SystemError("cannot load a program that drops everything", errno);
  return AttachNew(pin, program.get(), index, interface);
}

void RemovePins(const std::string& directory) {
  if (DIR* entries = opendir(directory.c_str()); entries != nullptr) {
    while (const dirent* entry = readdir(entries)) {
      if (entry->d_name[0] != '.') unlink((directory + "/" + entry->d_name).c_str());
    }
    closedir(entries);
  }
  rmdir(directory.c_str());
  rmdir(directory.substr(0, directory.rfind('/')).c_str());  // the instance's, when empty
}

Descriptor Duplicate(const bpf_map* map) {
  return Descriptor(fcntl(bpf_map__fd(map), F_DUPFD_CLOEXEC, 3));
}

/// Of an array of 64-bit words.
Result<SharedMap> Share(const bpf_map* map) {
  const size_t bytes = size_t{bpf_map__max_entries(map)} * sizeof(uint64_t);
  void* memory = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, bpf_map__fd(map), 0);
  if (memory == MAP_FAILED) {
    return SystemError(std::string("cannot map the XDP map ") + bpf_map__name(map), errno);
  }
  return SharedMap(memory, bytes);
}

/// Says what became of the port for which `error` left no program.
tl::unexpected<Error> WithoutProgram(Error error, const Descriptor& link, const std::string& pin,
                                     int index, const std::string& interface) {
  if (link) {
    error.message += ", so the one that is on " + interface + " stays in force";
  } else if (const auto shut = Shut(pin, index, interface); shut) {
    error.message += ", so " + interface + " is closed to everything";
  } else {
    error.message += ", and " + interface + " could not even be closed: " + shut.error().Text();
  }
  return tl::unexpected(std::move(error));
}

}  // namespace

Result<XdpPort> XdpPort::AttachAndKeepSas(const std::string& instance, const std::string& port,
                                          const std::string& interface, const XdpVariant& variant) {
  const auto directory = PinDirectory(instance, port);
  if (!directory) return tl::unexpected(directory.error());
  const int index = static_cast<int>(if_nametoindex(interface.c_str()));
  if (index == 0) {
    return Fail(ErrorKind::kNotFound, "port " + port + ": there is no interface '" + interface +
                                          "' in this network namespace");
  }
  if (auto ready = EnsureBpffs(); !ready) return tl::unexpected(ready.error());

  const std::string pin = *directory + "/link";
  auto link = FindLink(pin, index, interface);
  if (!link) return tl::unexpected(link.error());
  if (auto made = MakePinDirectory(*directory); !made) return tl::unexpected(made.error());

  const auto object = ReadObject(variant.object.empty() ? ObjectPath() : variant.object);
  if (!object) return WithoutProgram(object.error(), *link, pin, index, interface);
  const auto skeleton = LoadProgram(*object, *directory, variant);
  if (!skeleton) return WithoutProgram(skeleton.error(), *link, pin, index, interface);
  const int program = bpf_program__fd((*skeleton)->progs.xsk_def_prog);
  if (*link) {
    if (const int error = bpf_link_update(link->get(), program, nullptr); error != 0) {
      return SystemError("cannot replace the XDP program on " + interface, error);
    }
  } else if (auto attached = AttachNew(pin, program, index, interface); !attached) {
    RemovePins(*directory);  // maps that no program uses
    return tl::unexpected(attached.error());
  }
  auto attached = Query(index, interface);
  if (!attached) return tl::unexpected(attached.error());

  XdpPort result;
  result.handles_ = std::make_unique<Handles>();
  Handles& handles = *result.handles_;
  const auto& maps = (*skeleton)->maps;
  handles.mode = attached->mode;
  handles.program = Descriptor(fcntl(program, F_DUPFD_CLOEXEC, 3));
  handles.xsks_map = Duplicate(maps.xsks_map);
  handles.current = Duplicate(maps.current);
  handles.settings = Duplicate(maps.settings);
  handles.protected_nets = Duplicate(maps.protected_nets);
  handles.sources = Duplicate(maps.sources);
  handles.own_addresses = Duplicate(maps.own_addresses);
  handles.first_addresses = Duplicate(maps.first_addresses);
  auto spis = Share(maps.spis);
  if (!spis) return tl::unexpected(spis.error());
  handles.spis = *std::move(spis);
  handles.suspects = Duplicate(maps.suspects);
  handles.counters = Duplicate(maps.counters);
  handles.watching = Duplicate(maps.watching);
  handles.drops = Duplicate(maps.drops);
  return result;
}

Result<XdpPort> XdpPort::Attach(const std::string& instance, const std::string& port,
                                const std::string& interface, const XdpVariant& variant) {
  auto attached = AttachAndKeepSas(instance, port, interface, variant);
  if (!attached) return attached;
  // The keys died with the process that had them, and so did whoever watched.
  attached->spis().RemoveAll();
  if (auto stopped = attached->WatchDrops(0); !stopped) return tl::unexpected(stopped.error());
  return attached;
}

XdpPort::XdpPort() = default;
XdpPort::XdpPort(XdpPort&&) noexcept = default;
XdpPort& XdpPort::operator=(XdpPort&&) noexcept = default;
XdpPort::~XdpPort() = default;

const std::string& XdpPort::mode() const {
  return handles_->mode;
}
int XdpPort::program() const {
  return handles_->program.get();
}
SpiTable XdpPort::spis() const {
  return SpiTable(handles_->spis.words());
}
int XdpPort::sockets_map() const {
  return handles_->xsks_map.get();
}

Result<void> XdpPort::Detach(const std::string& instance, const std::string& port) {
  const auto directory = PinDirectory(instance, port);
  if (!directory) return tl::unexpected(directory.error());
  const std::string pin = *directory + "/link";
  {
    const Descriptor link(bpf_obj_get(pin.c_str()));
    if (!link && errno == ENOENT) {
      return Fail(ErrorKind::kNotFound,
                  "nothing is attached for instance " + instance + ", port " + port);
    }
    if (!link) return SystemError("cannot open " + pin, errno);
    // Somebody else may hold the link; detaching says what was meant, unpinning would only hope.
    if (bpf_link_detach(link.get()) != 0 && errno != ENOLINK) {
      return SystemError("cannot detach " + pin, errno);
    }
  }
  RemovePins(*directory);
  return {};
}

}  // namespace portcullis
