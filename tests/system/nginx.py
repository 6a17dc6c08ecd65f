"""Debian's nginx, with a configuration of its own in `folder`: a server of another making."""

import socket
import textwrap

from processes import Process

PROGRAM = '/usr/sbin/nginx'
MODULES = '''
worker_processes 1;
daemon off;
user {user};
pid {folder}/nginx.pid;
error_log {folder}/nginx.error;
events {{ worker_connections {connections}; }}
http {{
  client_body_temp_path {folder}/body;
  proxy_temp_path {folder}/proxy;
  fastcgi_temp_path {folder}/fastcgi;
  uwsgi_temp_path {folder}/uwsgi;
  scgi_temp_path {folder}/scgi;
  access_log off;
{http}
}}
'''


class Nginx(Process):
    """`http`: what stands in its http block. `probe`: an address and port that it listens on. `user`:
    of its workers, to whom `folder` must be open."""

    def __init__(self, namespace, folder, http, probe, connections=1024, user='root'):
        folder.mkdir(parents=True, exist_ok=True)
        self.probe = probe
        config = folder / 'nginx.conf'
        config.write_text(MODULES.format(folder=folder, connections=connections, user=user,
                                         http=textwrap.indent(http, '  ')), encoding='utf-8')
        super().__init__(namespace, [PROGRAM, '-p', folder, '-c', config, '-e',
                                     folder / 'nginx.error'], folder / 'nginx.log')

    def start(self):
        self.launch()
        self.require(self._listening, 'listening')

    def _listening(self):
        with self.namespace.entered(), socket.socket() as probe:
            return probe.connect_ex(self.probe) == 0


def mutual_tls(own, ca):
    """The lines for a server that knows its clients by certificates of `ca`."""
    return f'''ssl_certificate {own.certificate_file};
ssl_certificate_key {own.key_file};
ssl_client_certificate {ca.certificate_file};
ssl_verify_client on;
ssl_protocols TLSv1.3;
ssl_session_cache off;
ssl_session_tickets off;
'''
