// portcullisctl: what operators type.
#include <sys/prctl.h>

#include <iostream>

#include "control/cli/cli.hpp"

int main(int argc, char** argv) {
  // Files given to `sas add` hold keys; a core dump must not.
  prctl(PR_SET_DUMPABLE, 0);
  return portcullis::cli::Cli(std::cout, std::cerr).Run(argc, argv);
}
