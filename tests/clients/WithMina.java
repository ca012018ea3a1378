// Apache MINA SSHD, which IDEs, build servers and git clients of the Java world connect with: host key, key, password,
// exec, many commands at once, shell, SFTP, SCP, forwarding both ways, new session keys.

import java.io.*;
import java.net.*;
import java.nio.charset.StandardCharsets;
import java.nio.file.*;
import java.time.Duration;
import java.util.*;
import org.apache.sshd.client.SshClient;
import org.apache.sshd.client.channel.*;
import org.apache.sshd.client.keyverifier.*;
import org.apache.sshd.client.session.ClientSession;
import org.apache.sshd.common.config.keys.FilePasswordProvider;
import org.apache.sshd.common.keyprovider.FileKeyPairProvider;
import org.apache.sshd.common.util.net.SshdSocketAddress;
import org.apache.sshd.core.CoreModuleProperties;
import org.apache.sshd.server.forward.AcceptAllForwardingFilter;
import org.apache.sshd.scp.client.*;
import org.apache.sshd.sftp.client.*;
import org.apache.sshd.sftp.common.*;

public class WithMina {
    static final String HERE = System.getenv("HERE"), NAME = System.getenv("USER_NAME");
    static final int PORT = Integer.parseInt(System.getenv("PORT"));
    static final Duration SOON = Duration.ofSeconds(60);

    static void check(boolean holds, Object what) {
        if (!holds) {
            throw new AssertionError(String.valueOf(what));
        }
    }

    static SshClient client(String knownHosts) {
        SshClient client = SshClient.setUpDefaultClient();
        client.setServerKeyVerifier(
            new KnownHostsServerKeyVerifier(RejectAllServerKeyVerifier.INSTANCE, Path.of(knownHosts)));
        CoreModuleProperties.HEARTBEAT_INTERVAL.set(client, Duration.ofMillis(100));
        CoreModuleProperties.HEARTBEAT_REQUEST.set(client, "keepalive@openssh.com");
        client.setForwardingFilter(AcceptAllForwardingFilter.INSTANCE);
        client.start();
        return client;
    }

    static ClientSession session(SshClient client, boolean key) throws Exception {
        ClientSession session = client.connect(NAME, "127.0.0.1", PORT).verify(SOON).getSession();
        if (key) {
            session.setKeyIdentityProvider(new FileKeyPairProvider(Path.of(System.getenv("KEY"))));
        } else {
            session.addPasswordIdentity(System.getenv("PASSWORD"));
        }
        session.auth().verify(SOON);
        return session;
    }

    record Done(String out, String err, Integer code) {}

    static Done exec(ClientSession session, String command, byte[] input) throws Exception {
        try (ChannelExec channel = session.createExecChannel(command)) {
            ByteArrayOutputStream out = new ByteArrayOutputStream(), err = new ByteArrayOutputStream();
            channel.setIn(new ByteArrayInputStream(input));
            channel.setOut(out);
            channel.setErr(err);
            channel.open().verify(SOON);
            channel.waitFor(EnumSet.of(ClientChannelEvent.CLOSED), SOON);
            return new Done(out.toString(StandardCharsets.UTF_8), err.toString(StandardCharsets.UTF_8), channel.getExitStatus());
        }
    }

    public static void main(String[] arguments) throws Exception {
        Files.writeString(Path.of(HERE, "empty"), "");
        try (SshClient stranger = client(HERE + "/empty")) {
            session(stranger, true);
            check(false, "an unknown host key was taken");
        } catch (IOException refused) {
            check(refused.getMessage().contains("key"), refused);
        }
        try (SshClient client = client(System.getenv("KNOWN_HOSTS"))) {
            try (ClientSession session = session(client, false)) {
                check(exec(session, "id -un", new byte[0]).out.strip().equals(NAME), "password");
            }
            try (ClientSession session = session(client, true)) {
                work(session);
            }
        }
        System.out.println("all is well");
    }

    static void work(ClientSession session) throws Exception {
        Done done = exec(session, "echo out; echo err >&2; exit 42", new byte[0]);
        check(done.equals(new Done("out\n", "err\n", 42)), done);
        check(exec(session, "kill -TERM $$", new byte[0]).code == null, "a signal has no status");

        byte[] much = new byte[3_000_000];
        Arrays.fill(much, (byte) 'x');
        // Eight at a time on one connection, as an IDE that indexes; new keys in the midst of it.
        List<Thread> threads = new ArrayList<>();
        List<Throwable> wrong = Collections.synchronizedList(new ArrayList<>());
        for (int n = 0; n < 8; n++) {
            Thread thread = new Thread(() -> {
                try {
                    check(exec(session, "cat", much).out.length() == much.length, "a round trip");
                } catch (Throwable caught) {
                    wrong.add(caught);
                }
            });
            thread.start();
            threads.add(thread);
        }
        session.reExchangeKeys().verify(SOON);
        for (Thread thread : threads) {
            thread.join();
        }
        check(wrong.isEmpty(), wrong);

        try (ChannelShell shell = session.createShellChannel()) {
            shell.setPtyType("vt100");
            shell.setPtyColumns(90);
            shell.setPtyLines(30);
            shell.setEnv("LC_NAME", "of the client");
            ByteArrayOutputStream screen = new ByteArrayOutputStream();
            shell.setIn(new ByteArrayInputStream("stty size; echo $TERM; exit 7\n".getBytes()));
            shell.setOut(screen);
            shell.open().verify(SOON);
            shell.waitFor(EnumSet.of(ClientChannelEvent.CLOSED), SOON);
            String shown = screen.toString();
            check(shown.contains("30 90") && shown.contains("vt100"), shown);
            check(shell.getExitStatus() == 7, shell.getExitStatus());
        }

        try (SftpClient sftp = SftpClientFactory.instance().createSftpClient(session)) {
            try (OutputStream there = sftp.write("there")) {
                Files.copy(Path.of(System.getenv("FILE")), there);
            }
            try (InputStream there = sftp.read("there")) {
                Files.copy(there, Path.of(HERE, "back"));
            }
            sftp.mkdir("d");
            sftp.rename("there", "d/there");
            sftp.rename("d/there", "there");
            List<String> names = new ArrayList<>();
            sftp.readDir("d").forEach(entry -> names.add(entry.getFilename()));
            Collections.sort(names);
            check(names.equals(List.of(".", "..")), names);
            try {
                sftp.stat("no such file");
                check(false, "a file that is not there");
            } catch (SftpException missing) {
                check(missing.getStatus() == SftpConstants.SSH_FX_NO_SUCH_FILE, missing);
            }
        }
        ScpClient scp = ScpClientCreator.instance().createScpClient(session);
        scp.upload(System.getenv("FILE"), "by-scp");
        scp.download("by-scp", HERE + "/back by-scp");
        check(Files.mismatch(Path.of(System.getenv("FILE")), Path.of(HERE, "back by-scp")) == -1, "scp");

        SshdSocketAddress sshd = new SshdSocketAddress("127.0.0.1", PORT), any = new SshdSocketAddress("127.0.0.1", 0);
        SshdSocketAddress near = session.startLocalPortForwarding(any, sshd);
        try (Socket socket = new Socket("127.0.0.1", near.getPort())) {
            check(new String(socket.getInputStream().readNBytes(4)).equals("SSH-"), "local forwarding");
        }
        SshdSocketAddress socks = session.startDynamicPortForwarding(any);
        Proxy proxy = new Proxy(Proxy.Type.SOCKS, new InetSocketAddress("127.0.0.1", socks.getPort()));
        try (Socket socket = new Socket(proxy)) {
            socket.connect(new InetSocketAddress("127.0.0.1", PORT));
            check(new String(socket.getInputStream().readNBytes(4)).equals("SSH-"), "dynamic forwarding");
        }
        try (ServerSocket server = new ServerSocket(0, 1, InetAddress.getLoopbackAddress())) {
            SshdSocketAddress far = session.startRemotePortForwarding(any, new SshdSocketAddress("127.0.0.1", server.getLocalPort()));
            Thread answer = new Thread(() -> {
                try (Socket socket = server.accept()) {
                    socket.getOutputStream().write("from here".getBytes());
                } catch (IOException gone) {
                    throw new UncheckedIOException(gone);
                }
            });
            answer.start();
            Done told = exec(session, "exec 3<>/dev/tcp/127.0.0.1/" + far.getPort() + "; cat <&3", new byte[0]);
            check(told.equals(new Done("from here", "", 0)), told);
            answer.join();
            session.stopRemotePortForwarding(far);
        }
        check(exec(session, "echo still here", new byte[0]).out.equals("still here\n"), "in the end");
    }
}
