"""asyncssh: what others do not show: exit signals, many channels at once, Unix sockets, remote forwards, signals."""
import asyncio
import os
import asyncssh

env = os.environ


async def main():
    async with asyncssh.connect("127.0.0.1", int(env["PORT"]), username=env["USER_NAME"], client_keys=[env["KEY"]],
                                known_hosts=env["KNOWN_HOSTS"], agent_path=None) as us:
        done = await us.run("echo out; echo err >&2; exit 42")
        assert (done.stdout, done.stderr, done.exit_status) == ("out\n", "err\n", 42)
        for name in ("TERM", "KILL", "SEGV", "ABRT"):
            done = await us.run(f"ulimit -c 0; kill -{name} $$")
            assert done.exit_signal and done.exit_signal[0] == name, (name, done.exit_signal)
        process = await us.create_process("trap 'echo caught; exit 5' USR1 TERM; echo ready; while :; do sleep 0.05; done")
        await process.stdout.readline()
        process.send_signal("TERM")
        done = await process.wait()
        assert done.exit_status == 5 and "caught" in done.stdout, done
        many = await asyncio.gather(*(us.run(f"head -c 200000 /dev/zero | wc -c; exit {n}") for n in range(50)))
        assert [d.exit_status for d in many] == list(range(50)) and all(d.stdout.strip() == "200000" for d in many)
        async with us.start_sftp_client() as sftp:
            await sftp.put(env["FILE"], "there")
            await sftp.get("there", env["HERE"] + "/back")
            await sftp.makedirs("a/b/c")
            assert sorted(await sftp.listdir("a")) == [".", "..", "b"]
        async def echo(reader, writer):
            writer.write(await reader.read())
            await writer.drain()
            writer.close()
        server = await asyncio.start_server(echo, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        reader, writer = await us.open_connection("127.0.0.1", port)
        writer.write(b"word")
        writer.write_eof()
        assert await reader.read() == b"word"
        listener = await us.forward_remote_port("127.0.0.1", 0, "127.0.0.1", port)
        reader, writer = await asyncio.open_connection("127.0.0.1", listener.get_port())
        writer.write(b"back")
        writer.write_eof()
        assert await reader.read() == b"back"
        listener.close()
        process = await us.create_process("stty size; read x; stty size", term_type="xterm", term_size=(80, 24))
        assert (await process.stdout.readline()).strip() == "24 80"
        process.change_terminal_size(100, 40)
        await asyncio.sleep(0.3)
        process.stdin.write("\n")
        assert "40 100" in await process.stdout.read()
    async with asyncssh.connect("127.0.0.1", int(env["PORT"]), username=env["USER_NAME"], password=env["PASSWORD"],
                                known_hosts=env["KNOWN_HOSTS"], client_keys=None, agent_path=None) as us:
        assert (await us.run("id -un")).stdout.strip() == env["USER_NAME"]
    print("all is well")


asyncio.run(asyncio.wait_for(main(), 60))
