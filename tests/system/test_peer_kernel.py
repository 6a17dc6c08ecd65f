"""portcullis-peer over the kernel's IPsec, on this host: what it says of a kernel that has no ESP, and
what it leaves behind then. With ESP, the twin is that it starts; what passes is tests/guest's affair."""

import re

import pytest

from agent_world import NAME, Agent, selector
from netns import Namespaces, wait_until
from processes import BIN, Guard
from session_peer import PeerPki

CARRIES = "the kernel's IPsec carries the packets"


@pytest.fixture
def agent(tmp_path):
    with Namespaces('kernel') as world:
        namespace = world.add('peer')
        namespace.address('lo', '10.1.0.2/32')
        pki = PeerPki(tmp_path / 'pki')
        own = pki.issue(NAME, 'client')
        token = tmp_path / 'token'
        token.touch(mode=0o600)
        agent = Agent(namespace, tmp_path, {
            'gate': {'identity': Guard.NAME, 'url': f'https://{Guard.NAME}:4433',
                     'address': '192.0.2.1'},
            'certificate': {'identity': NAME, 'chain': str(own.certificate_file),
                            'key': str(own.key_file)},
            'anchors': [{'path': str(pki.ca.certificate_file)}],
            'crls': {'locations': [str(pki.list_file)]},
            'sessions': [{'interface': 'nsmf', 'token_file': str(token),
                          'selectors': [selector()]}],
            'kernel': {}})
        yield agent
        agent.stop()


def has_esp(namespace):
    both = ['src', '198.51.100.1', 'dst', '198.51.100.2', 'proto', 'esp', 'spi', '0x1234']
    sa = [*both, 'mode', 'tunnel', 'aead', 'rfc4106(gcm(aes))', '0x' + '00' * 20, '128']
    added = namespace.run(['ip', 'xfrm', 'state', 'add', *sa], check=False).returncode == 0
    if added:
        namespace.run(['ip', 'xfrm', 'state', 'delete', *both])
    return added


def test_a_kernel_without_esp_is_refused_and_one_with_it_is_not(agent):
    esp = has_esp(agent.namespace)
    agent.start()
    assert wait_until(lambda: not agent.running() or CARRIES in agent.said(), 60)
    assert agent.running() == esp, agent.said()
    if not esp:
        assert agent.process.returncode == 1
        assert re.search('adding a security association with [a-z0-9-]+ over IPv4 was tried: .*; '
                         r'expected a kernel with ESP \(CONFIG_INET_ESP, module esp4\) and this cipher',
                         agent.said()), agent.said()
    # What is to be protected does not go in clear either way, and no key is left.
    policies = agent.namespace.run(['ip', 'xfrm', 'policy'])
    assert policies.count('action block') == 3 and policies.count('10.2.0.10/32') == 3
    assert not agent.namespace.run(['ip', 'xfrm', 'state'])
    agent.stop()
    assert agent.namespace.run(['ip', 'xfrm', 'policy']) == policies
    agent.namespace.run([BIN / 'portcullis-peer', '--clear-kernel'])
    assert not agent.namespace.run(['ip', 'xfrm', 'policy'])


def test_without_the_capability_it_says_so(agent):
    agent.argv = ['setpriv', '--bounding-set', '-net_admin', '--inh-caps', '-net_admin',
                  *agent.argv]
    agent.start()
    assert agent.process.wait(60) == 1
    assert 'Operation not permitted; expected CAP_NET_ADMIN' in agent.said()
