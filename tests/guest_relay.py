"""Both ends of connections over true AF_VSOCK, through the bridge of this guest and back.

The bridge leads to SERVICE in place of sshd, and lets loopback in. Prints a line for each case.
"""

import socket
import struct
import threading
import time

SERVICE = ("127.0.0.1", 2200)
CHECK = "127.1.0.1"  # the agent's own look at what it takes for sshd
MUCH = 3_000_000

listener = socket.create_server(SERVICE, backlog=64)
arrivals = []
arrived = threading.Condition()


def serve():
    while True:
        connection, (address, _) = listener.accept()
        if address == CHECK:
            connection.sendall(b"SSH-2.0-service\r\n")
            connection.close()
            continue
        with arrived:
            arrivals.append(connection)
            arrived.notify()


def ends():
    """A user's end and the service's, with a byte gone each way."""
    user = socket.socket(socket.AF_VSOCK, socket.SOCK_STREAM)
    user.settimeout(20)
    user.connect((1, 22))
    with arrived:
        assert arrived.wait_for(lambda: arrivals, 20), "it did not get to the service"
        service = arrivals.pop()
    service.settimeout(20)
    for one, other in (user, service), (service, user):
        one.sendall(b"x")
        assert other.recv(1) == b"x"
    return user, service


def read_all(end):
    total = 0
    while data := end.recv(1 << 16):
        total += len(data)
    return total


def half_close(first, second):
    """The first ends its words while the second speaks, which goes on after it has read that."""
    heard = []

    def speak_and_end():
        first.sendall(bytes(MUCH))
        first.shutdown(socket.SHUT_WR)

    def hear():
        heard.append(read_all(first))

    threads = [threading.Thread(target=work) for work in (speak_and_end, hear)]
    for thread in threads:
        thread.start()
    speaks = threading.Thread(target=second.sendall, args=(bytes(MUCH),))
    speaks.start()
    assert read_all(second) == MUCH
    speaks.join()
    second.sendall(bytes(MUCH))
    second.shutdown(socket.SHUT_WR)
    for thread in threads:
        thread.join()
    assert heard == [2 * MUCH], heard


def reset(first, second, flow):
    """The first breaks off; the second hears of it at once, though it speaks without end."""
    if flow:
        first.sendall(b"last words")
    # To vsock, a close with something unread is a reset.
    second.sendall(b"unread")
    if first.family == socket.AF_INET:
        first.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    first.close()
    begin = time.monotonic()
    # With a time limit Python polls for room, which vsock never says of a peer that is gone.
    second.settimeout(None)
    try:
        if flow:
            while True:
                second.sendall(bytes(1 << 16))
        while second.recv(1 << 16):
            pass
    except (ConnectionError, BrokenPipeError):
        pass
    took = time.monotonic() - begin
    assert took < 6, f"heard after {took} s"
    return f"heard after {took:.3f} s"


threading.Thread(target=serve, daemon=True).start()
while True:
    try:
        ends()
        break
    except OSError:
        time.sleep(0.1)
for number in range(2):
    user, service = ends()
    pair = (user, service) if number == 0 else (service, user)
    half_close(*pair)
    print("half-close", number, "carried")
    user.close(), service.close()
    # In the flow vsock tells the writer nothing: it is found out by a write, once a second.
    for flow in (False, True):
        user, service = ends()
        pair = (user, service) if number == 0 else (service, user)
        print("reset", number, flow, reset(*pair, flow))
        user.close(), service.close()
