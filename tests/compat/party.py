"""Several clients of one server, step by step: what each of them receives, replies and pushes alike."""

from .wire import encode

PONGS = (b"+PONG\r\n", b"*2\r\n$4\r\npong\r\n$0\r\n\r\n")


class Party:
    """Clients by name, each with a protocol: Party(server, a=2, b=3)."""

    def __init__(self, server, **protocols):
        self.clients = {name: server.connect(protocol, timeout=20) for name, protocol in protocols.items()}

    def __enter__(self):
        return self

    def __exit__(self, *exc_info):
        for client in self.clients.values():
            client.close()

    def step(self, name, *command):
        """Sends one command, or several given as tuples; {client: the messages it received, as raw bytes}."""
        commands = command if isinstance(command[0], tuple) else [command]
        self.clients[name].send(b"".join(encode(*each) for each in commands))
        received = {each: [] for each in self.clients}
        # What was published before the first PING was answered has arrived before the second one is.
        self.settle(name, received)
        for _ in range(2):
            for each in self.clients:
                self.settle(each, received)
        return {each: messages for each, messages in received.items() if messages}

    def settle(self, name, received):
        client = self.clients[name]
        client.send(encode("PING"))
        while (message := read_one(client)) not in PONGS:
            received[name].append(message)


def read_one(client):
    return client.read_any().raw


def play(server, steps, **protocols):
    """The record of all steps, for comparison between servers."""
    with Party(server, **protocols) as party:
        return [(step, party.step(*step)) for step in steps]
