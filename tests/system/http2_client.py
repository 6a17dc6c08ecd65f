"""An HTTP/2 client that can also say what no client should: heads as they are given, frames as they
are written. h2 does the honest part."""

import h2.config
import h2.connection
import h2.events
import h2.exceptions


class Http2Client:
    """On a TLS connection that negotiated h2. What it waits for must come within the socket's time."""

    def __init__(self, connection):
        self.socket = connection
        self.h2 = h2.connection.H2Connection(h2.config.H2Configuration(
            validate_outbound_headers=False, normalize_outbound_headers=False,
            header_encoding='utf-8'))
        self.h2.initiate_connection()
        self.answers = {}  # by stream: {':status': …, …, 'body': bytes}
        self.over = {}  # by stream: None, or the code of its reset
        self.goaway = None  # the code
        self.flush()

    def flush(self):
        self.socket.sendall(self.h2.data_to_send())

    def begin(self, method, path, headers=(), body=None, authority='gate', end=True, pseudo=None):
        stream = self.h2.get_next_available_stream_id()
        head = pseudo or [(':method', method), (':scheme', 'https'), (':authority', authority),
                          (':path', path)]
        self.h2.send_headers(stream, head + list(headers), end_stream=body is None and end)
        if body is not None:
            self.h2.send_data(stream, body, end_stream=end)
        self.flush()
        return stream

    def receive(self):
        """False: the gate has closed the connection."""
        try:
            data = self.socket.recv(65536)
        except ConnectionError:
            return False
        if not data:
            return False
        for event in self.h2.receive_data(data):
            stream = getattr(event, 'stream_id', None)
            if isinstance(event, h2.events.ResponseReceived):
                self.answers[stream] = {**dict(event.headers), 'body': b''}
            elif isinstance(event, h2.events.DataReceived):
                self.answers[stream]['body'] += event.data
                self.h2.acknowledge_received_data(event.flow_controlled_length, stream)
            elif isinstance(event, h2.events.StreamEnded):
                self.over[stream] = None
            elif isinstance(event, h2.events.StreamReset):
                self.over.setdefault(stream, event.error_code)
            elif isinstance(event, h2.events.ConnectionTerminated):
                self.goaway = event.error_code
        self.flush()
        return True

    def answer(self, stream):
        """The answer once it has ended; None: the stream, or the connection, was broken off."""
        while stream not in self.over:
            if not self.receive():
                return None
        return self.answers.get(stream) if self.over[stream] is None else None

    def ask(self, *args, **more):
        """Status; None: no answer."""
        answer = self.answer(self.begin(*args, **more))
        return answer and int(answer[':status'])

    def until_closed(self):
        while self.receive():
            pass
        return self.goaway
