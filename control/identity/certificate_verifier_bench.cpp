// What a peer's certificate costs in a handshake, with short and with long revocation lists: ours,
// and OpenSSL's own way with the list in its store. A chain of three, P-256 throughout; the
// argument is the number of entries in the list.
#include <benchmark/benchmark.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>

#include "control/identity/certificate_verifier.hpp"
#include "control/identity/test_pki.hpp"

namespace portcullis::identity {
namespace {

using namespace test;

template <class T>
T Sure(Result<T> result) {
  if (!result) std::abort();
  return std::move(*result);
}

struct World {
  explicit World(size_t entries) : list(IssueCrl({.others = entries}, middle)) {
    const auto directory = std::filesystem::temp_directory_path();
    const auto write = [&](const char* name, const Issued& ca) {
      auto path = directory / fmt::format("portcullis-bench-{}-{}", getpid(), name);
      std::ofstream(path) << Pem(ca.certificate.get());
      return path;
    };
    const auto root_file = write("root.pem", root);
    const auto middle_file = write("middle.pem", middle);
    authorities = Sure(Authorities::Load({{{root_file}}, {middle_file}}));
    std::filesystem::remove(root_file);
    std::filesystem::remove(middle_file);
    Install(Der(list.get()));
    Install(Der(IssueCrl({}, root).get()));
  }
  void Install(const std::string& der) {
    const auto read = Sure(RevocationList::Read(der, *authorities, "bench"));
    if (!revocations.Install(read, Clock::now())) std::abort();
  }

  Issued root = Issue(CaSpec("root"));
  Issued middle = Issue(CaSpec("middle"), &root);
  Issued peer = Issue(ClientSpec("a.example"), &middle);
  ChainPtr presented = Chain({&middle});
  CrlPtr list;
  std::shared_ptr<const Authorities> authorities;
  Revocations revocations{std::chrono::seconds(0)};
};

void Verify(benchmark::State& state) {
  const World world(static_cast<size_t>(state.range(0)));
  const auto verifier = Sure(CertificateVerifier::Create(world.authorities, {}));
  const auto now = Clock::now();
  for (auto _ : state) {
    const auto verified = verifier.Verify(world.peer.certificate.get(), world.presented.get(),
                                          world.revocations, now);
    if (!verified) state.SkipWithError(verified.error().Text().c_str());
  }
}

/// A live session, asked again.
void CheckRevocations(benchmark::State& state) {
  const World world(static_cast<size_t>(state.range(0)));
  const auto verifier = Sure(CertificateVerifier::Create(world.authorities, {}));
  const auto now = Clock::now();
  const auto identity =
      verifier.Verify(world.peer.certificate.get(), world.presented.get(), world.revocations, now);
  for (auto _ : state) {
    if (!world.revocations.Check(*identity, now)) state.SkipWithError("refused");
  }
}

/// X509_verify_cert() alone; with entries, the peer's list is in its store and asked.
void OpensslVerify(benchmark::State& state) {
  const World world(static_cast<size_t>(state.range(0)));
  const OpensslPtr<X509_STORE, X509_STORE_free> store(X509_STORE_new());
  X509_STORE_add_cert(store.get(), world.root.certificate.get());
  if (state.range(0) > 0) {
    X509_STORE_add_crl(store.get(), world.list.get());
    X509_STORE_set_flags(store.get(), X509_V_FLAG_CRL_CHECK);
  }
  for (auto _ : state) {
    const OpensslPtr<X509_STORE_CTX, X509_STORE_CTX_free> context(X509_STORE_CTX_new());
    X509_STORE_CTX_init(context.get(), store.get(), world.peer.certificate.get(),
                        world.presented.get());
    if (X509_verify_cert(context.get()) != 1) state.SkipWithError("refused");
  }
}

/// In the background, when a new list has come.
void ReadList(benchmark::State& state) {
  const World world(static_cast<size_t>(state.range(0)));
  const std::string der = Der(world.list.get());
  for (auto _ : state) {
    benchmark::DoNotOptimize(RevocationList::Read(der, *world.authorities, "bench"));
  }
  state.SetItemsProcessed(state.iterations() * state.range(0));
}

constexpr int64_t kLong = 20000;
BENCHMARK(Verify)->Arg(0)->Arg(kLong)->Unit(benchmark::kMicrosecond);
BENCHMARK(OpensslVerify)->Arg(0)->Arg(kLong)->Unit(benchmark::kMicrosecond);
BENCHMARK(CheckRevocations)->Arg(0)->Arg(kLong)->Unit(benchmark::kMicrosecond);
BENCHMARK(ReadList)->Arg(kLong)->Unit(benchmark::kMillisecond);

}  // namespace
}  // namespace portcullis::identity

BENCHMARK_MAIN();
