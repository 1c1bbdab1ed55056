// node-etcd 7 does everything that it can, once; each outcome is one line of JSON on stdout.
// node client.js '{"hosts": [...], "user": "...", "pass": "...", "ca": file, "cert": file, "key": file}'
"use strict";
const fs = require("fs");
const Etcd = require("node-etcd");

const given = JSON.parse(process.argv[2]);
const read = (path) => (path ? fs.readFileSync(path) : undefined);
const options = { ca: read(given.ca), cert: read(given.cert), key: read(given.key), timeout: 20000 };
const login = given.user ? { auth: { user: given.user, pass: given.pass } } : {};
const etcd = new Etcd(given.hosts, Object.assign({}, options, login));
const nobody = new Etcd(given.hosts, options);
const once = { maxRetries: 0 };

function say(what, error, body, headers) {
  const said = { what, body: body || null, index: (headers || {})["x-etcd-index"] || null };
  if (error) {
    const { errorCode, error: details, message } = error;
    said.error = { errorCode, details, message };
    said.statuses = (error.errors || []).map((each) => each.httpstatus || each.httperror.code);
  }
  console.log(JSON.stringify(said));
}

const call = (what, begin) =>
  new Promise((done) => begin((error, body, headers) => (say(what, error, body, headers), done())));

async function main() {
  await call("set", (end) => etcd.set("/app/a", "1", end));
  await call("set again", (end) => etcd.set("/app/a", "2 & ü\n", end));
  await call("get", (end) => etcd.get("/app/a", end));
  await call("get nobody", (end) => etcd.get("/app/nobody", end));
  await call("swap", (end) => etcd.compareAndSwap("/app/a", "3", "2 & ü\n", end));
  await call("swap wrong", (end) => etcd.compareAndSwap("/app/a", "4", "wrong", end));
  await call("set with ttl", (end) => etcd.set("/app/a", "5", { ttl: 1000, prevExist: true }, end));
  await call("mkdir", (end) => etcd.mkdir("/app/d", end));
  await call("mkdir again", (end) => etcd.mkdir("/app/d", { prevExist: false }, end));
  await call("create", (end) => etcd.create("/app/queue", "first", end));
  await call("create", (end) => etcd.create("/app/queue", "second", end));
  await call("list", (end) => etcd.get("/app/", { recursive: true, sorted: true }, end));
  await call("delete wrong", (end) => etcd.compareAndDelete("/app/a", "wrong", end));
  await call("delete", (end) => etcd.del("/app/a", end));
  await call("rmdir", (end) => etcd.rmdir("/app/d", end));
  await call("rmdir full", (end) => etcd.rmdir("/app/queue", end));
  await call("outside", (end) => etcd.set("/elsewhere", "1", end));
  await call("without a user", (end) => nobody.set("/app/a", "1", end));
  await call("raw", (end) => etcd.raw("GET", "v2/auth/enable", null, once, end));
  say("sync", null, etcd.setSync("/app/s", "1").body, null);
  say("sync", null, etcd.getSync("/app/s").body, null);

  const events = [];
  const watcher = etcd.watcher("/app/w", null, { recursive: true });
  watcher.on("change", (body) => events.push([body.action, body.node.key, body.node.value || null]));
  watcher.on("error", (error) => say("watcher", error));
  const set = (value) => new Promise((done, failed) => etcd.set("/app/w/k", value, (error) => (error ? failed(error) : done())));
  const pause = (ms) => new Promise((done) => setTimeout(done, ms));
  // Its watch is open once it has seen a change: until then the same one is made again.
  for (let tries = 0; !events.length; tries += 1) {
    if (tries > 400) throw new Error("the watcher has seen nothing");
    await set("first");
    await pause(50);
  }
  await set("second");
  await call("delete", (end) => etcd.del("/app/w/k", (error) => end(error)));
  for (let waited = 0; events[events.length - 1][0] !== "delete"; waited += 20) {
    if (waited > 20000) throw new Error("the watcher has not seen the end");
    await pause(20);
  }
  watcher.stop();
  say("events", null, events.slice(-2), null);
}

main().then(() => process.exit(0), (error) => (console.error(error), process.exit(1)));
