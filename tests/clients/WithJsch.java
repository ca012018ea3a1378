// JSch, of which the libraries of Java IDEs and build tools descend: host key, key, password, exec, shell, SFTP,
// forwarding both ways, keepalives, new session keys.

import com.jcraft.jsch.*;
import java.io.*;
import java.net.*;
import java.nio.charset.StandardCharsets;
import java.nio.file.*;
import java.util.Arrays;

public class WithJsch {
    static final String HERE = System.getenv("HERE"), NAME = System.getenv("USER_NAME");
    static final int PORT = Integer.parseInt(System.getenv("PORT"));

    static Session session(String knownHosts, boolean key) throws Exception {
        JSch jsch = new JSch();
        jsch.setKnownHosts(knownHosts);
        if (key) {
            jsch.addIdentity(HERE + "/pem");
        }
        Session session = jsch.getSession(NAME, "127.0.0.1", PORT);
        session.setConfig("StrictHostKeyChecking", "yes");
        session.setConfig("PreferredAuthentications", key ? "publickey" : "password");
        if (!key) {
            session.setPassword(System.getenv("PASSWORD"));
        }
        session.setServerAliveInterval(100);
        session.setTimeout(60_000);
        return session;
    }

    static void check(boolean holds, Object what) {
        if (!holds) {
            throw new AssertionError(String.valueOf(what));
        }
    }

    static String exec(Session session, String command, byte[] input, int code) throws Exception {
        ChannelExec channel = (ChannelExec) session.openChannel("exec");
        channel.setCommand(command);
        channel.setInputStream(new ByteArrayInputStream(input));
        InputStream out = channel.getInputStream();
        channel.connect();
        byte[] said = out.readAllBytes();
        while (!channel.isClosed()) {
            Thread.sleep(10);
        }
        check(channel.getExitStatus() == code, channel.getExitStatus());
        channel.disconnect();
        return new String(said, StandardCharsets.UTF_8);
    }

    public static void main(String[] arguments) throws Exception {
        Files.writeString(Path.of(HERE, "empty"), "");
        try {
            session(HERE + "/empty", true).connect();
            check(false, "an unknown host key was taken");
        } catch (JSchException refused) {
            check(refused.getMessage().contains("HostKey"), refused);
        }
        String known = HERE + "/known";
        Session session = session(known, false);
        session.connect();
        check(exec(session, "id -un", new byte[0], 0).strip().equals(NAME), "password");
        session.disconnect();

        session = session(known, true);
        session.connect();
        check(exec(session, "echo out; echo err >&2; exit 42", new byte[0], 42).equals("out\n"), "exec");
        byte[] much = new byte[3_000_000];
        Arrays.fill(much, (byte) 'x');
        check(exec(session, "cat", much, 0).length() == much.length, "a round trip");

        ChannelShell shell = (ChannelShell) session.openChannel("shell");
        shell.setPtyType("vt100", 90, 30, 0, 0);
        shell.setInputStream(new ByteArrayInputStream("stty size; echo $TERM; exit 7\n".getBytes()));
        InputStream screen = shell.getInputStream();
        shell.connect();
        String shown = new String(screen.readAllBytes());
        check(shown.contains("30 90") && shown.contains("vt100"), shown);
        shell.disconnect();

        ChannelSftp sftp = (ChannelSftp) session.openChannel("sftp");
        sftp.connect();
        sftp.put(System.getenv("FILE"), "there");
        session.rekey();
        sftp.get("there", HERE + "/back");
        sftp.mkdir("d");
        sftp.rename("there", "d/there");
        sftp.rename("d/there", "there");
        check(sftp.ls("d").size() == 2, sftp.ls("d"));
        try {
            sftp.get("no such file", HERE + "/none");
            check(false, "a file that is not there");
        } catch (SftpException missing) {
            check(missing.id == ChannelSftp.SSH_FX_NO_SUCH_FILE, missing);
        }
        sftp.disconnect();

        // Keepalives went out meanwhile, ten a second.
        Thread.sleep(1000);
        int near = session.setPortForwardingL(0, "127.0.0.1", PORT);
        try (Socket socket = new Socket("127.0.0.1", near)) {
            check(new String(socket.getInputStream().readNBytes(4)).equals("SSH-"), "local forwarding");
        }
        try (ServerSocket server = new ServerSocket(0, 1, InetAddress.getLoopbackAddress())) {
            // This library does not say which port it was given for 0.
            int far;
            try (ServerSocket free = new ServerSocket(0)) {
                far = free.getLocalPort();
            }
            // It wakes this thread at the answer to any global request, also when it waits no more.
            session.setServerAliveInterval(0);
            Thread.sleep(500);
            session.setPortForwardingR(far, "127.0.0.1", server.getLocalPort());
            Thread.interrupted();
            Thread answer = new Thread(() -> {
                try (Socket socket = server.accept()) {
                    socket.getOutputStream().write("from here".getBytes());
                } catch (IOException gone) {
                    throw new UncheckedIOException(gone);
                }
            });
            answer.start();
            String heard = exec(session, "exec 3<>/dev/tcp/127.0.0.1/" + far + "; cat <&3", new byte[0], 0);
            check(heard.equals("from here"), heard);
            answer.join();
            session.delPortForwardingR(far);
        }
        session.rekey();
        check(exec(session, "echo still here", new byte[0], 0).equals("still here\n"), "after new keys");
        session.disconnect();
        System.out.println("all is well");
    }
}
