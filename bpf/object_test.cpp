// A program file that is not this build's: what is attached stays, and where nothing is, nothing
// passes.
#include "bpf/object.hpp"

#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <unistd.h>

#include <fstream>

#include "bpf/test_port.hpp"

namespace portcullis {
namespace {

/// The program's object with one byte changed: still a program, but not ours.
class WrongObject : public PortTest {
 protected:
  void SetUp() override {
    PortTest::SetUp();
    auto bytes = ReadObject(ObjectPath());
    ASSERT_TRUE(bytes) << bytes.error().Text();
    bytes->back() ^= 1;
    path_ = "/dev/shm/" + instance_ + ".bpf.o";
    std::ofstream(path_, std::ios::binary)
        .write(reinterpret_cast<const char*>(bytes->data()),
               static_cast<std::streamsize>(bytes->size()));
  }
  void TearDown() override {
    unlink(path_.c_str());
    PortTest::TearDown();
  }
  [[nodiscard]] Result<XdpPort> TryObject(const std::string& path) const {
    return XdpPort::Attach(instance_, kPort, "wire0", {.object = path});
  }
  static std::string NameOnWire() {
    const int program = bpf_prog_get_fd_by_id(ProgramOnWire());
    bpf_prog_info info{};
    uint32_t length = sizeof(info);
    bpf_obj_get_info_by_fd(program, &info, &length);
    close(program);
    return info.name;
  }
  std::string path_;
};

TEST_F(WrongObject, LeavesThePortClosedAndSaysWhichItIs) {
  for (const std::string& path : {path_, std::string("/nonexistent/portcullis_xdp.bpf.o")}) {
    const auto refused = TryObject(path);
    ASSERT_FALSE(refused);
    EXPECT_EQ(refused.error().kind, ErrorKind::kInvalid);
    EXPECT_EQ(refused.error().where, path);
    const std::string text = refused.error().Text();
    EXPECT_NE(text.find("SHA-256"), std::string::npos) << text;
    EXPECT_NE(text.find(path == path_ ? "wire0 is closed to everything" : "stays in force"),
              std::string::npos)
        << text;
    EXPECT_EQ(NameOnWire(), "portcullis_shut");
    // Not even what needs no policy.
    const Bytes arp = Ethernet(0x0806, "ff:ff:ff:ff:ff:ff") + Bytes(28, 1);
    const int shut = bpf_prog_get_fd_by_id(ProgramOnWire());
    LIBBPF_OPTS(bpf_test_run_opts, run, .data_in = arp.data(),
                .data_size_in = static_cast<uint32_t>(arp.size()), .repeat = 1);
    EXPECT_EQ(bpf_prog_test_run_opts(shut, &run), 0);
    EXPECT_EQ(run.retval, static_cast<uint32_t>(XDP_DROP));
    close(shut);
  }
  // The right one takes its place under the same link.
  const uint32_t link = LinkId(Pin("link"));
  ASSERT_NE(link, 0U);
  Attach(XdpRole::kUntrusted, true);
  EXPECT_EQ(LinkId(Pin("link")), link);
  EXPECT_EQ(Run(Ethernet(0x0806, "ff:ff:ff:ff:ff:ff") + Bytes(28, 1)), Verdict::exception);
}

TEST_F(WrongObject, DoesNotReplaceTheProgramThatIsThere) {
  Attach(XdpRole::kUntrusted, true);
  const uint32_t program = ProgramOnWire();
  const auto refused = TryObject(path_);
  ASSERT_FALSE(refused);
  EXPECT_NE(refused.error().Text().find("stays in force"), std::string::npos);
  EXPECT_EQ(ProgramOnWire(), program);
  EXPECT_EQ(port_->generation(), generation_);
  EXPECT_EQ(Run(Ethernet(0x0800) + V4("192.0.2.2", "192.0.2.1", 50) + Esp(kSpi)),
            Verdict::accepted);
}

TEST_F(WrongObject, OrATableOfSpisThatCannotBeLeavesThePortClosed) {
  const auto refused = XdpPort::Attach(instance_, kPort, "wire0", {.sa_capacity = 1000});
  ASSERT_FALSE(refused);
  EXPECT_NE(refused.error().Text().find("a power of two"), std::string::npos);
  EXPECT_NE(ProgramOnWire(), 0U);
  EXPECT_TRUE(XdpPort::Attach(instance_, kPort, "wire0", {.sa_capacity = 2048}));
}

}  // namespace
}  // namespace portcullis
