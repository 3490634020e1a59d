# Two peers that fill a connection from both ends, and read none of it before
# a file appears: `serve PORT DIR` and `call SOCKET DIR`. Each writes the
# checksums of what it sent and of what it received to DIR.
import hashlib, os, select, socket, sys, threading, time

SIZE = 8 << 20
role, address, folder = sys.argv[1:]


def note(name, content):
    path = os.path.join(folder, role + "." + name)
    with open(path + ".new", "w") as file:
        file.write(content)
    os.rename(path + ".new", path)


def send(peer):
    data = os.urandom(SIZE)
    note("sent", hashlib.sha256(data).hexdigest())
    rest = memoryview(data)
    while rest:
        if not select.select([], [peer], [], 0.5)[1]:
            note("blocked", "")
        else:
            rest = rest[peer.send(rest, socket.MSG_DONTWAIT) :]
    peer.shutdown(socket.SHUT_WR)


def receive(peer):
    while not os.path.exists(os.path.join(folder, "read")):
        time.sleep(0.05)
    digest = hashlib.sha256()
    while chunk := peer.recv(1 << 16):
        digest.update(chunk)
    note("received", digest.hexdigest())


if role == "serve":
    server = socket.create_server(("127.0.0.1", int(address)))
    note("ready", "")
    while True:
        peer, _ = server.accept()
        # The agent's own checks come from here.
        if peer.getpeername()[0] != "127.1.0.1":
            break
else:
    peer = socket.socket(socket.AF_UNIX)
    peer.connect("\0" + address)
sender = threading.Thread(target=send, args=[peer])
sender.start()
receive(peer)
sender.join()
