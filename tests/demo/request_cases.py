"""Four kinds of peers at four interfaces, without ESP: each does what it may and is refused what it may
not. What is refused has a twin beside it: nearly the same, and it passes.
"""

import time

from netns import wait_until
from requests_part import Asking, Outcome, problem
from services import AS, CSMF, GATEWAY, MSGIN5G, NFVO, NSMF, OSS, OTHER, SCEF, SERVER_PORT

SLICE = '/ProvMnS/v1/SubNetwork=1/NetworkSlice={}'
MERGE_PATCH = 'application/merge-patch+json'
BLOCK = 'weak-spot'
BLOCKED_SECONDS = 5  # at most; how long it took is said
SUBSCRIPTIONS = '/3gpp-monitoring-event/v1/{}/subscriptions'
NIDD = '/3gpp-nidd/v1/scs-as-1/configurations'
REGISTRATIONS = '/msgs-gwregistration/v1/registrations'
MESSAGE = '/msgs-msgdelivery/v1/deliver-ue-message'
DELIVERY = '/msgg-l3gdelivery/v1/deliver-message'
INSTANCES = '/nslcm/v2/ns_instances'
PACKAGES, DESCRIPTORS = '/vnfpkgm/v2/vnf_packages', '/nsd/v2/ns_descriptors'
TWIN = '  its twin'


class Cases:
    """Each part yields (name, outcome), and does the next case when it is asked for it."""

    def __init__(self, lab):
        self.lab = lab
        self.asking = Asking(lab)
        self.passes, self.refused = self.asking.passes, self.asking.refused
        self.held = ''  # the request that waits for an operator in the end

    def parts(self):
        """(what it is about, its cases)."""
        yield ('A CSMF without ESP manages slices of another NSMF, over HTTPS; the guard judges each '
               'request', self.slices)
        yield 'An application server (SCS/AS) at the SCEF, T8', self.exposure
        yield 'A message gateway at the MSGin5G server', self.messages
        yield 'An OSS/BSS at the NFVO, Os-Ma-Nfvo', self.network_services

    def leave(self):
        """A slice is there to be explored. Returns curl's --config files, to read it and to terminate
        the network service."""
        self.asking.make(self._create('edge'))
        files = {name: self.lab.services.folder / f'{name}.curl' for name in ('read', 'terminate')}
        for name, attempt in (('read', self._slice('edge', 'GET')), ('terminate', self.terminate)):
            files[name].write_text(attempt.request.whole(), encoding='ascii')
        return files

    # -- the management exposure interface

    def _at(self, path, method, scope='slices:manage', user=CSMF, **more):
        return self.asking.ask(user, NSMF, method, path, scope, version='2', **more)

    def _slice(self, name, method, *scope, **more):
        return self._at(SLICE.format(name), method, *scope, **more)

    def _create(self, name, **more):
        return self._slice(name, 'PUT', body={
            'id': name, 'objectClass': 'NetworkSlice',
            'attributes': {'administrativeState': 'LOCKED'}}, **more)

    def _patch(self, name, attributes, **more):
        return self._slice(name, 'PATCH', body={'attributes': attributes}, kind=MERGE_PATCH, **more)

    def slices(self):
        passes, refused = self.passes, self.refused
        yield 'create a slice', passes(self._create('edge'), 201)
        yield 'activate it', passes(self._patch('edge', {'administrativeState': 'UNLOCKED'}), 200)
        yield 'read it', passes(self._slice('edge', 'GET'), 200, 'UNLOCKED')
        yield 'modify it', passes(self._patch('edge', {'userLabel': 'gold'}), 200, 'gold')
        yield 'another tenant\'s', refused(self._slice('edge', 'GET', user=OTHER), 403,
                                           'tenant_violation')
        yield TWIN, passes(self._create('theirs', user=OTHER), 201)
        yield 'not in its token', refused(
            self._patch('edge', {'userLabel': 'tin'}, scope='slices:read',
                        note=', with a token to read'), 403, 'operation_denied')
        yield TWIN, passes(self._slice('edge', 'GET', 'slices:read'), 200, 'gold')
        for name, path in (('hidden dot segments', SLICE.format('edge/%2e%2e/NetworkSlice=theirs')),
                           ('an empty segment', SLICE.format('edge').replace('/Sub', '//Sub'))):
            yield name, refused(self._at(path, 'GET'), 400, 'request_malformed')
        yield 'no token', refused(self._slice('edge', 'GET', token='', note=', no token'), 401,
                                  'token_missing')
        yield 'no certificate', refused(
            self._slice('edge', 'GET', certificate=False, note=', no certificate'), 0, 'cert_missing')
        stolen = self.asking.token(OTHER, 'slices:manage')
        yield 'another\'s token', refused(
            self._slice('edge', 'GET', token=stolen, note=', with csmf-4\'s token'), 401,
            'token_binding_fail')
        yield TWIN, passes(self._slice('edge', 'GET'), 200)
        yield from self._virtual_patch()
        yield from self._one_time()

    def _virtual_patch(self):
        """An operator learns of a weakness and blocks what reaches it, while it works."""
        ask, close = self.asking.kept_connection(CSMF, NSMF)
        try:
            read = ask('GET', SLICE.format('edge'), 'slices:manage')
            yield 'at work', self.passes(read, 200)
            self.lab.rest.put(f'/v1/request-blocks/{BLOCK}', {
                'name': BLOCK, 'interface': NSMF.name, 'method': 'GET', 'path': SLICE.format('*')})
            took = self._until(read, 403)
            yield 'virtual patch', self.refused(read._replace(
                sent=f'{read.sent}, blocked over REST {took} ago'), 403, 'request_blocked')
            self.lab.rest.delete(f'/v1/request-blocks/{BLOCK}')
            took = self._until(read, 200)
            yield TWIN, self.passes(read._replace(sent=f'{read.sent}, lifted {took} ago'), 200)
        finally:
            close()

    def _until(self, attempt, status):
        """How long it took; what was answered meanwhile counts, as does all else."""
        began = time.monotonic()
        wait_until(lambda: self.asking.make(attempt).status == status, BLOCKED_SECONDS)
        return f'{(time.monotonic() - began) * 1000:.0f} ms'

    def _one_time(self):
        """To delete, each time a token of its own."""
        yield 'create another', self.passes(self._create('spare'), 201)
        token = self.asking.new_token(CSMF, 'slices:delete')
        yield 'delete the first', self.passes(
            self._slice('edge', 'DELETE', token=token, note=', one-time token'), 204)
        yield 'the token once more', self.refused(
            self._slice('spare', 'DELETE', token=token, note=', the same token'), 401, 'token_used')
        again = self.asking.new_token(CSMF, 'slices:delete')
        yield TWIN, self.passes(
            self._slice('spare', 'DELETE', token=again, note=', another token'), 204)

    # -- T8

    def exposure(self):
        passes, refused, asking = self.passes, self.refused, self.asking

        def ask(method, path, scope='scef:context', **more):
            return asking.ask(AS, SCEF, method, path, scope, **more)

        def monitoring(callback):
            return {'monitoringType': 'LOSS_OF_CONNECTIVITY', 'notificationDestination': callback}

        own, inside = AS.receiver, f'https://{NFVO.address}:{SERVER_PORT}'
        collection = SUBSCRIPTIONS.format('scs-as-1')
        made = passes(ask('POST', collection, body=monitoring(f'{own}/notify/1')), 201)
        yield 'subscribe', made
        subscription = _location(made)
        notify = asking.send(SCEF, own, '/notify/1', AS, {'subscription': subscription})
        yield 'be notified', passes(notify, 204)
        yield 'as another', refused(ask('GET', SUBSCRIPTIONS.format('scs-as-2')), 403,
                                    'tenant_violation')
        yield TWIN, passes(ask('GET', subscription), 200, 'LOSS_OF_CONNECTIVITY')
        yield 'another class of data', refused(ask('GET', NIDD), 403, 'operation_denied')
        yield TWIN, passes(ask('GET', NIDD, 'scef:communication'), 200)
        for name, where in (('call the NFVO for me', inside),
                            ('call the cloud for me', 'https://169.254.169.254')):
            yield name, refused(
                ask('PUT', subscription, body=monitoring(f'{where}/notify/1'),
                    note=f' with callback {where}'), 403, 'callback_denied')
        yield TWIN, passes(ask('PUT', subscription, body=monitoring(f'{own}/notify/2'),
                               note=f' with callback {own}'), 200)
        yield 'notify inside', refused(asking.send(SCEF, inside, '/notify/1', AS), 403,
                                       'callback_denied')
        yield 'who may not notify', refused(
            asking.send(SCEF, own, '/notify/2', AS, sender=NFVO), 0, 'peer_unknown')
        yield TWIN, passes(asking.send(SCEF, own, '/notify/2', AS), 204)
        yield 'unsubscribe', passes(ask('DELETE', subscription), 204)

    # -- MSGin5G

    def messages(self):
        passes, refused, asking = self.passes, self.refused, self.asking

        def ask(method, path, body=None, **more):
            return asking.ask(GATEWAY, MSGIN5G, method, path, 'msgin5g:l3g', body, **more)

        def send(originator=GATEWAY.name, **more):
            return ask('POST', MESSAGE, {'oriAddr': {'addr': originator}, 'payload': 'hello'}, **more)

        delivery = asking.send(MSGIN5G, GATEWAY.receiver, DELIVERY, GATEWAY, {'payload': 'hello'})
        yield 'send unregistered', refused(send(), 403, 'not_registered')
        yield 'deliver to it', refused(delivery, 403, 'not_registered')
        made = passes(ask('POST', REGISTRATIONS, {'gateway': GATEWAY.name}), 201)
        yield 'register', made
        yield TWIN, passes(send(), 204)
        yield TWIN, passes(delivery, 204)
        yield 'in another\'s name', refused(send('gateway-7', note=' from gateway-7'), 403,
                                            'tenant_violation')
        yield 'de-register', passes(ask('DELETE', _location(made)), 204)
        yield 'send de-registered', refused(send(), 403, 'not_registered')
        yield 'deliver to it', refused(delivery, 403, 'not_registered')

    # -- Os-Ma-Nfvo

    def network_services(self):
        passes, refused, asking = self.passes, self.refused, self.asking

        def ask(method, path, scope='ns:manage', body=None, **more):
            return asking.ask(OSS, NFVO, method, path, scope, body, **more)

        made = passes(ask('POST', INSTANCES, body={'nsName': 'edge'}), 201)
        yield 'create an NS', made
        instance = _location(made)
        begun = passes(ask('POST', f'{instance}/instantiate', body={'nsFlavourId': 'small'}), 202)
        yield 'instantiate it', begun
        yield 'how far is it', passes(ask('GET', _location(begun)), 200, 'INSTANTIATE')
        yield 'scale it', passes(ask('POST', f'{instance}/scale', body={'scaleType': 'SCALE_NS'}), 202)
        yield 'on-board a package', refused(ask('POST', PACKAGES, body={}), 403, 'operation_denied')
        yield TWIN, passes(ask('POST', PACKAGES, 'packages:onboard', {},
                               note=', with a token for it'), 201)
        made = passes(ask('POST', DESCRIPTORS, 'packages:onboard', {}), 201)
        yield 'on-board an NSD', made
        yield 'delete it', refused(ask('DELETE', _location(made), 'packages:onboard'), 403,
                                   'operation_denied')
        self.terminate = ask('POST', f'{instance}/terminate',
                             body={'terminationTime': '2030-01-01T00:00:00Z'})
        yield from self._two_parties(self.terminate)

    def _two_parties(self, terminate):
        """Held; approved by another operator than the one who made the policy; passes once."""
        refusal = self.refused(terminate, 403, 'approval_needed')
        yield 'terminate it: held', refusal
        held = _held(refusal)
        path = f'/v1/held-requests/{held}'
        digest = {'digest': self.lab.rest.get(path)['request']['digest']} if held else {}
        for operator, status, name in (('bob', 403, 'a viewer approves'),
                                       ('carol', 200, 'an operator approves')):
            yield name, self._rest(operator, f'{path}/approve', digest, status)
        yield 'terminate it', self.passes(terminate, 202)
        refusal = self.refused(terminate, 403, 'approval_needed')
        self.held = _held(refusal)
        refusal.ok &= self.held not in ('', held)
        yield 'once more: held', refusal

    def _rest(self, operator, path, body, status):
        rest = self.lab.gate_side[1].rest(operator)
        try:
            answered = rest.call('POST', path, body)[0]
        finally:
            rest.close()
        return Outcome(f'{operator} POST {path}', f'HTTP {answered}', 'nobody', answered == status)


def _location(made):
    """Where what was created is; what was not is nowhere."""
    return made.answer.location or '/nowhere'


def _held(refusal):
    return problem(refusal.answer).get('held', '')
