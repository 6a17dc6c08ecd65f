"""The XDP program under this kernel: its own unit tests, all of them."""

import os
import pathlib
import subprocess


def test_the_xdp_program_loads_and_decides_here_as_well():
    program = pathlib.Path(os.environ['PORTCULLIS_BIN']) / 'xdp_test'
    done = subprocess.run([program, '--gtest_brief=1'], capture_output=True, text=True, check=False)
    print(*(line for line in done.stdout.splitlines() if 'verifier' in line or 'tests' in line), sep='\n')
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-2000:]
