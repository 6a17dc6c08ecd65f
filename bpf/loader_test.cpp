// How the program gets onto a port and stays there: update in place, death of the process, stale
// and foreign attachments, and everything that a host can refuse.
#include "bpf/loader.hpp"

#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <linux/if_link.h>
#include <net/if.h>
#include <sched.h>
#include <signal.h>
#include <sys/mount.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <functional>

#include "bpf/shared.h"
#include "bpf/test_port.hpp"

namespace portcullis {
namespace {

class Loader : public PortTest {
 protected:
  [[nodiscard]] size_t Entries(const std::string& map, size_t key_size) const {
    const int fd = bpf_obj_get(Pin(map).c_str());
    std::vector<uint8_t> key(key_size), before(key_size);
    size_t entries = 0;
    for (bool more = bpf_map_get_next_key(fd, nullptr, key.data()) == 0; more; ++entries) {
      before = key;
      more = bpf_map_get_next_key(fd, before.data(), key.data()) == 0;
    }
    close(fd);
    return entries;
  }
  /// Runs it in a child process and returns the child's wait status.
  static int InChild(const std::function<int()>& run) {
    const pid_t child = fork();
    if (child == 0) _exit(run());
    int status = -1;
    EXPECT_EQ(waitpid(child, &status, 0), child);
    return status;
  }
  [[nodiscard]] Result<XdpPort> TryAttach(const std::string& interface = "wire0") const {
    return XdpPort::Attach(instance_, kPort, interface, {});
  }
};

TEST_F(Loader, AttachesInTheDriverWhereItCan) {
  Attach(XdpRole::kUntrusted, false);
  EXPECT_EQ(port_->mode(), "native");
  EXPECT_NE(ProgramOnWire(), 0u);
}

TEST_F(Loader, FallsBackToGenericModeAndSaysSo) {
  auto attached = TryAttach("lo");  // has no XDP in its driver
  ASSERT_TRUE(attached) << attached.error().Text();
  EXPECT_EQ(attached->mode(), "generic");
}

TEST_F(Loader, SecondAttachSwapsTheProgramUnderTheSameLinkAndKeepsTheMaps) {
  Attach(XdpRole::kUntrusted, true);
  const uint32_t link = LinkId(Pin("link")), program = ProgramOnWire();
  const Bytes cleartext = Ethernet(0x0800) + V4("192.0.2.2", "10.2.0.10", 6) + Tcp(1, 80);
  const Bytes esp = Ethernet(0x0800) + V4("192.0.2.2", "192.0.2.1", 50) + Esp(kSpi);
  EXPECT_EQ(Run(cleartext), Verdict::cleartext_denied);
  EXPECT_EQ(Run(esp), Verdict::accepted);
  const XdpCounters counters = port_->Read();

  auto again = TryAttach();
  ASSERT_TRUE(again) << again.error().Text();
  port_ = std::move(*again);
  EXPECT_EQ(LinkId(Pin("link")), link);
  EXPECT_NE(ProgramOnWire(), program);
  EXPECT_EQ(port_->Read().packets, counters.packets);
  EXPECT_EQ(port_->generation(), generation_);
  // Policy, own addresses and the socket are where they were; the keys of SAs are gone.
  EXPECT_EQ(Run(cleartext), Verdict::cleartext_denied);
  EXPECT_EQ(Run(esp), Verdict::unknown_spi);
  port_->spis().Add(Spi{kSpi}, 0);
  EXPECT_EQ(Run(esp), Verdict::accepted);
  EXPECT_EQ(Run(Ethernet(0x0800) + V4("192.0.2.2", "192.0.2.1", 6) + Tcp(1, 22)),
            Verdict::exception);
}

TEST_F(Loader, SecondAttachMayChangeTheRole) {
  Attach(XdpRole::kTrusted, true);
  const Bytes elsewhere = Ethernet(0x0800) + V4("10.2.0.10", "10.1.0.2", 6) + Tcp(80, 1);
  const Bytes stranger = Ethernet(0x0800) + V4("203.0.113.9", "10.1.0.2", 6) + Tcp(80, 1);
  EXPECT_EQ(Run(elsewhere), Verdict::accepted);
  EXPECT_EQ(Run(stranger), Verdict::accepted);
  CloseSocket();
  Attach(XdpRole::kUntrusted, true);
  EXPECT_EQ(Run(stranger), Verdict::not_for_us);
}

TEST_F(Loader, ProgramOutlivesItsProcess) {
  const int status = InChild([&] {
    auto attached = TryAttach();
    if (!attached) return 1;
    kill(getpid(), SIGKILL);
    return 2;
  });
  ASSERT_TRUE(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
  const uint32_t program = ProgramOnWire();
  EXPECT_NE(program, 0u);
  Attach(XdpRole::kUntrusted, true);
  EXPECT_NE(ProgramOnWire(), 0u);
  EXPECT_NE(ProgramOnWire(), program);
}

TEST_F(Loader, InterfaceThatCameBackIsClosedAgain) {
  Attach(XdpRole::kUntrusted, false);
  Ip("link delete wire0");
  MakeWire();
  EXPECT_EQ(ProgramOnWire(), 0u);
  Attach(XdpRole::kUntrusted, true);
  EXPECT_NE(ProgramOnWire(), 0u);
  EXPECT_EQ(Run(Ethernet(0x0800) + V4("192.0.2.2", "192.0.2.1", 50) + Esp(kSpi)),
            Verdict::accepted);
}

TEST_F(Loader, ForeignProgramIsNamedAndLeftAlone) {
  LIBBPF_OPTS(bpf_prog_load_opts, options);
  const bpf_insn pass_all[] = {{.code = 0xb7, .dst_reg = 0, .src_reg = 0, .off = 0, .imm = 2},
                               {.code = 0x95, .dst_reg = 0, .src_reg = 0, .off = 0, .imm = 0}};
  const int foreign =
      bpf_prog_load(BPF_PROG_TYPE_XDP, "somebody_elses", "GPL", pass_all, 2, &options);
  ASSERT_GE(foreign, 0);
  const int wire = static_cast<int>(if_nametoindex("wire0"));
  ASSERT_EQ(bpf_xdp_attach(wire, foreign, XDP_FLAGS_DRV_MODE, nullptr), 0);
  const uint32_t id = ProgramOnWire();

  const auto refused = TryAttach();
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().kind, ErrorKind::kConflict);
  EXPECT_NE(refused.error().found.find("'somebody_elses', id " + std::to_string(id)),
            std::string::npos)
      << refused.error().Text();
  EXPECT_EQ(ProgramOnWire(), id);

  ASSERT_EQ(bpf_xdp_detach(wire, XDP_FLAGS_DRV_MODE, nullptr), 0);
  close(foreign);
  const auto admitted = TryAttach();
  EXPECT_TRUE(admitted) << admitted.error().Text();
}

TEST_F(Loader, SaysWhyItDoesNotJoinLibxdpsDispatcher) {
  const bpf_insn pass_all[] = {{.code = 0xb7, .imm = 2}, {.code = 0x95}};
  const int dispatcher =
      bpf_prog_load(BPF_PROG_TYPE_XDP, "xdp_dispatcher", "GPL", pass_all, 2, nullptr);
  ASSERT_GE(dispatcher, 0);
  const int wire = static_cast<int>(if_nametoindex("wire0"));
  ASSERT_EQ(bpf_xdp_attach(wire, dispatcher, XDP_FLAGS_DRV_MODE, nullptr), 0);
  const auto refused = TryAttach();
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().kind, ErrorKind::kConflict);
  for (const char* words : {"libxdp's dispatcher", "AF_XDP", "xdp-loader unload wire0"}) {
    EXPECT_NE(refused.error().Text().find(words), std::string::npos) << refused.error().Text();
  }
  ASSERT_EQ(bpf_xdp_detach(wire, XDP_FLAGS_DRV_MODE, nullptr), 0);
  close(dispatcher);
  EXPECT_TRUE(TryAttach());
}

TEST_F(Loader, AnotherInstanceIsAForeignProgramToo) {
  Attach(XdpRole::kUntrusted, false);
  const auto refused = XdpPort::Attach(instance_ + "-b", kPort, "wire0", {});
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().kind, ErrorKind::kConflict);
  EXPECT_NE(refused.error().found.find("'xsk_def_prog'"), std::string::npos);
  EXPECT_NE(access(("/sys/fs/bpf/portcullis/" + instance_ + "-b").c_str(), F_OK), 0);
}

TEST_F(Loader, PortDoesNotMoveToAnotherInterfaceWithoutBeingDetached) {
  Attach(XdpRole::kUntrusted, false);
  const auto refused = TryAttach("far0");
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().kind, ErrorKind::kConflict);
  EXPECT_NE(refused.error().Text().find("wire0"), std::string::npos) << refused.error().Text();
  EXPECT_NE(ProgramOnWire(), 0u);

  ASSERT_TRUE(XdpPort::Detach(instance_, kPort));
  EXPECT_EQ(ProgramOnWire(), 0u);
  const auto admitted = TryAttach("far0");
  EXPECT_TRUE(admitted) << admitted.error().Text();
}

TEST_F(Loader, SameIndexInAnotherNetworkNamespaceIsAnotherInterface) {
  Attach(XdpRole::kUntrusted, false);
  const unsigned index = if_nametoindex("wire0");
  const int status = InChild([&] {
    if (unshare(CLONE_NEWNET) != 0) return 1;
    Ip("link add wire0 type veth peer name far0");
    if (if_nametoindex("wire0") != index) return 2;
    const auto refused = TryAttach();
    return !refused && refused.error().kind == ErrorKind::kConflict ? 0 : 3;
  });
  EXPECT_EQ(status, 0) << WEXITSTATUS(status);
  EXPECT_NE(ProgramOnWire(), 0u);
}

// Half of a policy would be worse than none: what does not fit goes with all the rest.
TEST_F(Loader, MapsOfAnotherVersionAreReplacedByEmptyOnesTogether) {
  Attach(XdpRole::kUntrusted, false);
  port_.reset();
  ASSERT_EQ(unlink(Pin("protected_nets").c_str()), 0);
  LIBBPF_OPTS(bpf_map_create_opts, options);
  const int old = bpf_map_create(BPF_MAP_TYPE_HASH, "protected_nets", 4, 4, 10, &options);
  ASSERT_GE(old, 0);
  ASSERT_EQ(bpf_obj_pin(old, Pin("protected_nets").c_str()), 0);
  close(old);
  auto attached = TryAttach();
  ASSERT_TRUE(attached) << attached.error().Text();
  EXPECT_EQ(attached->generation(), 0U);
  EXPECT_EQ(Entries("own_addresses", sizeof(portcullis_address)), 0U);
  port_ = std::move(*attached);
  generation_ = 0;
  Apply(Policy());
  EXPECT_EQ(Run(Ethernet(0x0800) + V4("192.0.2.2", "10.2.0.10", 6) + Tcp(1, 80)),
            Verdict::cleartext_denied);
  // And what fits is kept, the twin: SecondAttachSwapsTheProgramUnderTheSameLinkAndKeepsTheMaps.
}

TEST_F(Loader, FullMapIsAnErrorAndRemovesNothing) {
  Attach(XdpRole::kUntrusted, false);
  std::vector<Address> many;
  for (unsigned i = 0; i <= PORTCULLIS_MAX_ADDRESSES; ++i) {
    const uint8_t bytes[4] = {10, 9, static_cast<uint8_t>(i >> 8), static_cast<uint8_t>(i)};
    many.push_back(Address::V4(bytes));
  }
  const auto refused = port_->SetOwnAddresses(many);
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().kind, ErrorKind::kExhausted);
  EXPECT_EQ(Run(Ethernet(0x0800) + V4("192.0.2.2", "192.0.2.1", 6) + Tcp(1, 22)),
            Verdict::exception);
  ASSERT_TRUE(port_->SetOwnAddresses({}));
  many.pop_back();
  EXPECT_TRUE(port_->SetOwnAddresses(many));
}

TEST_F(Loader, DetachOpensThePortAndLeavesNoPins) {
  Attach(XdpRole::kUntrusted, false);
  ASSERT_TRUE(XdpPort::Detach(instance_, kPort));
  EXPECT_EQ(ProgramOnWire(), 0u);
  EXPECT_NE(access(("/sys/fs/bpf/portcullis/" + instance_).c_str(), F_OK), 0);
  const auto again = XdpPort::Detach(instance_, kPort);
  ASSERT_FALSE(again);
  EXPECT_EQ(again.error().kind, ErrorKind::kNotFound);
}

TEST_F(Loader, RefusesWhatIsNotThereAndNamesThatLeadElsewhere) {
  EXPECT_EQ(TryAttach("nosuch0").error().kind, ErrorKind::kNotFound);
  for (const std::string& name : {std::string(), std::string("../x"), std::string("a b"),
                                  std::string("a/b"), std::string(33, 'a')}) {
    const auto as_instance = XdpPort::Attach(name, kPort, "wire0", {});
    ASSERT_FALSE(as_instance) << name;
    EXPECT_EQ(as_instance.error().kind, ErrorKind::kInvalid);
    EXPECT_EQ(as_instance.error().where, "instance");
    const auto as_port = XdpPort::Attach(instance_, name, "wire0", {});
    ASSERT_FALSE(as_port) << name;
    EXPECT_EQ(as_port.error().where, "port");
  }
  EXPECT_TRUE(TryAttach());
}

TEST_F(Loader, SaysWhichPermissionIsMissing) {
  const int status = InChild([&] {
    if (setuid(65534) != 0) return 1;
    const auto refused = TryAttach();
    if (refused || refused.error().kind != ErrorKind::kForbidden) return 2;
    return refused.error().expected.find("CAP_NET_ADMIN") != std::string::npos ? 0 : 3;
  });
  EXPECT_EQ(status, 0) << WEXITSTATUS(status);
}

TEST_F(Loader, RefusesBpffsThatWouldVanishWithTheProcess) {
  ASSERT_TRUE(TryAttach());  // sees to bpffs
  const int status = InChild([&] {
    // What `ip netns exec` does.
    if (unshare(CLONE_NEWNS) != 0) return 1;
    if (mount("", "/", nullptr, MS_SLAVE | MS_REC, nullptr) != 0) return 2;
    while (umount2("/sys/fs/bpf", MNT_DETACH) == 0) {
    }
    const auto refused = TryAttach();
    if (refused || refused.error().kind != ErrorKind::kUnavailable) return 3;
    return refused.error().Text().find("nsenter") != std::string::npos ? 0 : 4;
  });
  EXPECT_EQ(status, 0) << WEXITSTATUS(status);
}

TEST_F(Loader, CloseInterfacesClosesAllThatItCan) {
  Ip("address add 192.0.2.1/24 dev wire0");
  const ClosedPort ports[] = {{"gone", "nosuch0", {.role = XdpRole::kTrusted}},
                              {kPort, "wire0", {}}};
  const auto partly = CloseInterfaces(instance_, ports);
  ASSERT_FALSE(partly);
  EXPECT_NE(partly.error().message.find("nosuch0"), std::string::npos);
  EXPECT_NE(ProgramOnWire(), 0u);
  EXPECT_TRUE(CloseInterfaces(instance_, std::span(ports).last(1)));

  auto attached = TryAttach();
  ASSERT_TRUE(attached);
  port_ = std::move(*attached);
  EXPECT_EQ(Run(Ethernet(0x0800) + V4("192.0.2.2", "192.0.2.1", 6) + Tcp(1, 22)),
            Verdict::exception);
  EXPECT_EQ(Run(Ethernet(0x0800) + V4("192.0.2.2", "192.0.2.9", 6) + Tcp(1, 22)),
            Verdict::not_for_us);
}

TEST_F(Loader, FindsTheAddressesOfAnInterface) {
  Ip("address add 192.0.2.1/24 dev wire0");
  Ip("address add 2001:db8::1/64 dev wire0");
  Ip("address add 198.51.100.1/24 dev far0");
  auto addresses = InterfaceAddresses("wire0");
  ASSERT_TRUE(addresses);
  const auto has = [&](const char* text) {
    return std::ranges::count(*addresses, Address::Parse(text).value()) == 1;
  };
  EXPECT_TRUE(has("192.0.2.1") && has("2001:db8::1"));
  EXPECT_FALSE(has("198.51.100.1"));
  EXPECT_EQ(InterfaceAddresses("nosuch0").error().kind, ErrorKind::kNotFound);
}

}  // namespace
}  // namespace portcullis
