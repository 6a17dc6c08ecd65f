"""These need another kernel than the host's: run.py beside this file runs them in a guest."""

import os

collect_ignore_glob = [] if os.environ.get('PORTCULLIS_GUEST') else ['test_*.py']
