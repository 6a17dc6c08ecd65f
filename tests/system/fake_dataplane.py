"""A steering server that does what a test tells it: for what a real dataplane does only when
something breaks (refuses a policy, hangs up between receiving and answering, keeps silent).

    fake = FakeDataplane(socket_path)
    fake.on('apply_snapshot', lambda message: 'hang up')   # or 'silence', or a pb.Failure
    fake.kinds()                                            # what control has asked for so far
"""

import hashlib
import os
import socket
import struct
import threading
import uuid

from steer_client import ALGORITHMS, pb

NAMES = {number: name for name, number in ALGORITHMS.items()}


def fingerprint(spec):
    """As in base/secret.cpp, written a second time."""
    label = b'portcullis key' + NAMES[spec.algorithm].encode() + b'\0'
    return hashlib.sha256(label + spec.key).hexdigest()[:32]


class FakeDataplane:
    def __init__(self, path, generation=0):
        self.path = str(path)
        self.generation = generation
        self.sas = {}            # id -> SaSpec, key included
        self.requests = []       # (kind, message), in order
        self.gives_keys = True
        self.rules = {}
        self.incarnation = uuid.uuid4().hex
        self.lock = threading.Lock()
        self.listener = None
        self.connections = []
        self.start()

    # ---- what tests do

    def start(self):
        self.listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.listener.bind(self.path)
        self.listener.listen()
        threading.Thread(target=self._accept, args=(self.listener,), daemon=True).start()

    def stop(self):
        """Dies: the socket goes, connections break."""
        self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()
        os.unlink(self.path)
        self.hang_up()

    def hang_up(self):
        # Only those of now: control is back before the loop is over, and may stay.
        connections, self.connections = self.connections, []
        for connection in connections:
            try:
                connection.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass

    def restart(self):
        """Another process on the same host: no policy, no SAs."""
        self.stop()
        self.incarnation = uuid.uuid4().hex
        self.generation = 0
        self.sas = {}
        self.requests.clear()
        self.start()

    def on(self, kind, rule):
        """rule(message) decides: None goes on as usual, 'hang up', 'silence', or a Failure."""
        self.rules[kind] = rule

    def kinds(self, *only):
        with self.lock:
            return [kind for kind, _ in self.requests if not only or kind in only]

    def messages(self, kind):
        with self.lock:
            return [message for k, message in self.requests if k == kind]

    # ---- the server

    def _accept(self, listener):
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            self.connections.append(connection)
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection):
        with connection:
            try:
                while True:
                    request = pb.Request.FromString(self._frame(connection))
                    kind = request.WhichOneof('kind')
                    message = getattr(request, kind)
                    with self.lock:
                        self.requests.append((kind, message))
                    what = self.rules.get(kind, lambda message: None)(message)
                    if what == 'hang up':
                        return
                    if what == 'silence':
                        continue
                    response = pb.Response(id=request.id)
                    if isinstance(what, pb.Failure):
                        response.failure.CopyFrom(what)
                    else:
                        getattr(self, '_' + kind)(message, response)
                    data = pb.ServerMessage(response=response).SerializeToString()
                    connection.sendall(struct.pack('>I', len(data)) + data)
            except (OSError, EOFError):
                return

    @staticmethod
    def _frame(connection):
        def exactly(size):
            data = b''
            while len(data) < size:
                got = connection.recv(size - len(data))
                if not got:
                    raise EOFError
                data += got
            return data
        return exactly(struct.unpack('>I', exactly(4))[0])

    # ---- the answers

    def _hello(self, _, response):
        response.hello.CopyFrom(pb.HelloReply(protocol=1, boot_id='boot', lab=True,
                                              incarnation=self.incarnation,
                                              generation=self.generation, instance='fake'))

    def _subscribe(self, _, response):
        pass

    def _apply_snapshot(self, message, response):
        self.generation = message.generation
        response.apply_snapshot.generation = message.generation

    def _revoke(self, _, response):
        pass

    def _add_sas(self, message, response):
        for spec in message.sas:
            self.sas.pop(spec.replaces, None)
            self.sas[spec.id] = spec
            response.add_sas.results.add(id=spec.id)

    def _remove_sas(self, message, response):
        for name in message.ids:
            self.sas.pop(name, None)
        response.remove_sas.removed = len(message.ids)

    def _list_sas(self, message, response):
        limit = message.limit or 1000
        names = sorted(name for name in self.sas if name > message.after)
        for name in names[:limit]:
            state = response.list_sas.sas.add()
            state.spec.CopyFrom(self.sas[name])
            state.fingerprint = fingerprint(state.spec)
            if not (message.with_keys and self.gives_keys):
                state.spec.key = b''
        response.list_sas.more = len(names) > limit

    def _read_counters(self, _, response):
        response.read_counters.SetInParent()

    def _read_status(self, _, response):
        response.read_status.generation = self.generation
