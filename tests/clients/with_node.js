// node's ssh2, which VS Code's relatives stand on: exec, shell, SFTP, forwarding, keyboard-interactive.
const fs = require("fs");
const { Client } = require("ssh2");
const env = process.env;
const where = { host: "127.0.0.1", port: +env.PORT, username: env.USER_NAME, readyTimeout: 30000 };
const call = (f) => new Promise((yes, no) => f((error, value) => (error ? no(error) : yes(value))));
const connect = (more) =>
  new Promise((yes, no) => {
    const client = new Client();
    client.on("ready", () => yes(client)).on("error", no);
    if (more.tryKeyboard) client.on("keyboard-interactive", (n, i, l, prompts, finish) => finish(prompts.map(() => env.PASSWORD)));
    client.connect({ ...where, ...more });
  });
const said = (stream) =>
  new Promise((yes) => {
    const done = { out: "", err: "" };
    stream.on("data", (d) => (done.out += d)).stderr.on("data", (d) => (done.err += d));
    stream.on("exit", (code, signal) => Object.assign(done, { code, signal })).on("close", () => yes(done));
  });
// The end may stand in the same packet as the answer: it is listened for before anything else runs.
const run = (client, command) => new Promise((yes, no) => client.exec(command, (error, stream) => (error ? no(error) : said(stream).then(yes))));
const check = (what, value) => {
  if (!value) throw new Error(what);
};

(async () => {
  const us = await connect({ privateKey: fs.readFileSync(env.KEY) });
  let done = await run(us, "echo out; echo err >&2; exit 42");
  check("exec " + JSON.stringify(done), done.out === "out\n" && done.err === "err\n" && done.code === 42);
  done = await run(us, "kill -TERM $$");
  check("signal " + JSON.stringify(done), /TERM/.test(done.signal));
  const sftp = await call((f) => us.sftp(f));
  await call((f) => sftp.fastPut(env.FILE, "there", f));
  await call((f) => sftp.fastGet("there", env.HERE + "/back", f));
  check("size", (await call((f) => sftp.stat("there", f))).size === fs.statSync(env.FILE).size);
  const shell = await call((f) => us.shell({ term: "xterm", cols: 91, rows: 31 }, f));
  shell.write("stty size; exit 7\n");
  done = await said(shell);
  check("shell", done.out.includes("31 91") && done.code === 7);
  const tunnel = await call((f) => us.forwardOut("127.0.0.1", 1, "127.0.0.1", +env.PORT, f));
  const hello = await new Promise((yes) => tunnel.once("data", yes));
  check("tunnel", hello.toString().startsWith("SSH-2.0-"));
  us.end();
  const again = await connect({ tryKeyboard: true });
  done = await run(again, "id -un");
  check("keyboard-interactive", done.out.trim() === env.USER_NAME);
  again.end();
  console.log("all is well");
  process.exit(0);
})().catch((error) => {
  console.error(error);
  process.exit(1);
});
