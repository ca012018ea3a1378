//! Editors that work on another machine: VS Code and its relatives, JetBrains. The editors are no packages of
//! Debian; what they do with ssh is done here by ssh itself: a shell on a pipe that installs and starts a server,
//! which outlives the connection, and forwards to it.

use crate::world::{World, possible};

/// Serves a folder and says on which port, as the editors' servers do, in a session of its own.
const SERVER: &str = r#"
mkdir -p .editor-server/bin && cd .editor-server
cat >server.py <<'PY'
import http.server, os, socketserver, sys
class Files(http.server.SimpleHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def do_PUT(self):
        left = int(self.headers["Content-Length"])
        with open("put", "wb") as out:
            while left:
                left -= out.write(self.rfile.read(min(left, 65536)))
        self.send_response(204)
        self.end_headers()
    def address_string(self): return "somebody"
    def log_message(self, *a): pass
class Unix(socketserver.ThreadingUnixStreamServer):
    def get_request(self):
        return self.socket.accept()[0], ("", 0)
where = sys.argv[1]
server = Unix(where, Files) if "/" in where else http.server.ThreadingHTTPServer(("127.0.0.1", 0), Files)
with open("listening", "w") as out:
    print(where if "/" in where else server.server_address[1], file=out)
server.serve_forever()
PY
rm -f listening
[ -e "$HOME/.editor-server/pid" ] || { nohup setsid python3 server.py "$WHERE" >log 2>&1 </dev/null & echo $! >pid; }
until [ -s listening ]; do sleep 0.05; done
echo "listeningOn=$(cat listening)="
"#;

#[test]
fn a_remote_editor() {
    if !possible("a remote editor's way to work", &["curl", "python3"]) {
        return;
    }
    let world = World::new();
    std::fs::write(world.here.join("install"), SERVER).unwrap();
    // One connection without a terminal: a shell whose input is a script that goes on to wait, and -D beside it.
    let done = world.sh("mkfifo keep; D=$((20000 + RANDOM % 10000))
         $SSH -T -D 127.0.0.1:$D 127.0.0.1 bash <keep >said 2>errors & ssh=$!
         exec 3>keep; (echo WHERE=0; cat install; echo 'cat >/dev/null') >&3
         until grep -q listeningOn said; do kill -0 $ssh; sleep 0.05; done
         port=$(sed -n 's/listeningOn=\\(.*\\)=/\\1/p' said)
         C=\"curl -sS --retry 30 --retry-connrefused --socks5-hostname 127.0.0.1:$D\"
         $C -T $FILE http://127.0.0.1:$port/put
         $C -o back http://127.0.0.1:$port/put
         # Many at a time, as an editor's extensions do, and the line is let go.
         for n in $(seq 20); do $C -o back.$n http://127.0.0.1:$port/put & all=\"${all:-} $!\"; done
         wait $all; for n in $(seq 20); do cmp back.$n $FILE; done
         exec 3>&-; wait $ssh; rm said keep
         # The server has lived on, and another connection finds it.
         $SSH -L 127.0.0.1:$D:127.0.0.1:$port -N 127.0.0.1 & ssh=$!
         curl -sS --retry 30 --retry-connrefused -o again http://127.0.0.1:$D/put; cmp again $FILE
         kill $ssh; $SSH 127.0.0.1 'kill $(cat .editor-server/pid)'");
    done.ok();
    world.carried(".editor-server/put", "back");
}

#[test]
fn through_sockets_of_its_own() {
    if !possible("a remote editor on a Unix socket", &["curl", "python3"]) {
        return;
    }
    let world = World::new();
    std::fs::write(world.here.join("install"), SERVER).unwrap();
    // JetBrains carries its server by sftp, starts it by a command and comes through a socket; so does VS Code if told.
    let done = world.sh("O=\"-o ControlPath=$HERE/control\"
         $SSH -M -N $O 127.0.0.1 & ssh=$!
         until $SSH -O check $O 127.0.0.1 2>/dev/null; do sleep 0.05; done
         echo put install | sftp -q -b - $(echo $SSH | sed 's/^ssh //') $O 127.0.0.1 >/dev/null
         $SSH $O 127.0.0.1 'WHERE=$HOME/socket; . ./install' >said
         remote=$(sed -n 's/listeningOn=\\(.*\\)=/\\1/p' said)
         $SSH -O forward $O -L $HERE/local:$remote 127.0.0.1
         curl -sS --unix-socket local -T $FILE http://editor/put
         curl -sS --unix-socket local -o back http://editor/put
         $SSH $O 127.0.0.1 'kill $(cat .editor-server/pid)'; kill $ssh");
    done.ok();
    world.carried(".editor-server/put", "back");
}
