// What a page that calls and one that is called have in common: the microphone, the
// connection with the phone, whose answer is believed by its key alone, the digits, and what
// the user is told. The storing server passes one offer and one answer on; the phone signs
// both, so that nobody between can put another fingerprint into either. What is said after
// that goes directly.

export const at = id => document.getElementById(id);
export const show = (id, text) => { at(id).textContent = text; };
export const say = text => show("state", text);
export const complain = text => {
  show("trouble", text);
  at("trouble").hidden = text === "";
};

// A Trouble is what the user is told, with what to do.
export class Trouble extends Error {}

export const explain = e => complain(e instanceof Trouble ? e.message : `That did not work (${e.name}: ${e.message}). Load the page again.`);

export async function microphone() {
  if (!navigator.mediaDevices) throw new Trouble("The browser gives no microphone to a page that came without HTTPS. Open this page by https, or on the machine of the storing server.");
  try {
    return await navigator.mediaDevices.getUserMedia({ audio: { echoCancellation: true, noiseSuppression: true, autoGainControl: true } });
  } catch (e) {
    if (e.name === "NotAllowedError") throw new Trouble("The browser does not let this page use the microphone. Allow it beside the address of the page, and try again.");
    if (e.name === "NotFoundError") throw new Trouble("There is no microphone. Plug one in, and try again.");
    throw new Trouble(`The microphone does not work (${e.name}). Close other programs that use it, and try again.`);
  }
}

export const release = stream => stream?.getTracks().forEach(t => t.stop());

// Why page and phone have found no way to each other, and what to do about it.
const unreached = relay => relay
  ? "The phone cannot be reached from this network, not by way of the storing server either. Try another network."
  : "The phone cannot be reached directly from this network: a router, here or there, lets nobody in. Try another network, or ask whoever keeps the storing server to have it pass calls on (--turn).";

// Says something to the storing server, and returns what that answers.
export async function post(url, body) {
  let response;
  try {
    response = await fetch(url, { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(body) });
    return await response.json();
  } catch {
    throw new Trouble(response ? "The storing server does not answer as it should. Load the page again." : "The storing server cannot be reached. Look whether this machine is online, and try again.");
  }
}

const bytes = text => Uint8Array.from(atob(text), c => c.charCodeAt(0));
const base64 = data => btoa(String.fromCharCode(...data));
const hash = async data => new Uint8Array(await crypto.subtle.digest("SHA-256", data));
const hex = data => Array.from(data, b => b.toString(16).padStart(2, "0")).join("");

// Waits until all addresses of a connection that is about to look for them are known. A server that one of the machine's networks,
// or UDP, does not lead to is not waited for as long as browsers do, once another has answered.
const gathered = pc => new Promise(done => {
  pc.addEventListener("icegatheringstatechange", () => { if (pc.iceGatheringState === "complete") done(); });
  pc.addEventListener("icecandidate", e => { if (e.candidate && e.candidate.type !== "host") setTimeout(done, 500); });
  setTimeout(done, 2000); // with the addresses that there are
});

// seekMost is for how long a way to a phone that was lost is looked for, in milliseconds: as long
// as the phone waits. seekEach is how long one that was found may take to work.
const seekMost = 45000, seekEach = 4000;

// A Talk is one call of this page, from its beginning.
export class Talk {
  connected = ""; // what is shown while both hear each other
  #shown = "";    // what is shown of a call that is answered
  #first;         // the nonce by which the phone knows the call
  #seeks = false; // another way to the phone is looked for

  // Makes the connection, with the microphone's track if there is one already. What leads to
  // the phone are the page's own addresses, those as which a STUN server beside the page sees
  // it, and a TURN server there, for networks from which nothing else does. on.opened is called
  // once page and phone speak directly, on.told with what the phone says, and on.lost when it is
  // gone, with what the user is to know of that. on.number and on.key
  // are the phone's.
  connect({ stun, relay }, track, on) {
    const iceServers = [];
    if (stun) iceServers.push({ urls: `stun:${location.hostname}:${stun}` });
    if (relay) {
      const host = `turn:${location.hostname}:${relay.port}`;
      iceServers.push({ urls: [host, host + "?transport=tcp"], username: relay.name, credential: relay.password });
    }
    const pc = this.pc = new RTCPeerConnection({ iceServers });
    this.words = pc.createDataChannel("call", { negotiated: true, id: 0 });
    const line = pc.addTransceiver(track ?? "audio", { direction: "sendrecv" });
    this.sender = line.sender;
    const codecs = (RTCRtpReceiver.getCapabilities?.("audio")?.codecs ?? []).filter(c => /opus|telephone-event/i.test(c.mimeType));
    if (codecs.length > 0 && line.setCodecPreferences) line.setCodecPreferences(codecs);
    pc.ontrack = e => { at("voice").srcObject = e.streams[0] ?? new MediaStream([e.track]); };
    this.words.onopen = () => on.opened?.();
    this.words.onmessage = e => this.#hear(String(e.data), on);
    this.words.onclose = () => { if (!this.over) on.lost(""); };
    pc.onconnectionstatechange = () => {
      if (this.over) return;
      const state = pc.connectionState;
      if (state === "connected" && this.answered) say(this.#shown);
      if (!this.answered && state === "failed") on.lost(unreached(relay));
      if (this.answered && (state === "disconnected" || state === "failed")) this.#seek(on, unreached(relay));
    };
  }

  // Looks for another way to the phone, which has moved where none of those that there were leads,
  // or this page has (ICE restart): by way of the storing server, as at first.
  async #seek(on, unreached) {
    if (this.#seeks) return;
    this.#seeks = true;
    say("Reconnecting");
    const lost = () => !this.over && this.pc.connectionState !== "connected";
    for (const end = Date.now() + seekMost; lost() && Date.now() < end;) {
      try {
        this.pc.restartIce();
        const said = await post(`/call/${encodeURIComponent(on.number)}/again${location.search}`, { ...await this.offer(), of: this.#first });
        if (said.refusal === "hangup" && lost()) on.lost(""); // the phone knows of no such call
        if (said.answer && lost()) {
          await this.believe(said, on.key, "flexphone browser call again 1");
          await this.take(said.answer);
        }
      } catch (e) {
        console.warn("no other way to the phone yet:", e.message);
      }
      await this.#settled();
    }
    this.#seeks = false;
    if (lost()) on.lost(unreached);
  }

  // Waits until the phone is there again, or for seekEach.
  #settled() {
    return new Promise(done => {
      const look = () => { if (this.over || this.pc.connectionState === "connected") done(); };
      this.pc.addEventListener("connectionstatechange", look);
      setTimeout(done, seekEach);
      look();
    });
  }

  #hear(word, on) {
    if (this.over) return;
    if (word === "hold") this.#show("On hold");
    if (word === "retrieve") this.#show(this.connected);
    on.told(word);
  }

  #show(text) {
    this.#shown = text;
    say(text);
  }

  // What the phone is to answer, once all addresses are known.
  async offer() {
    const all = gathered(this.pc); // what was known before is of another way
    await this.pc.setLocalDescription();
    await all;
    this.nonce = crypto.getRandomValues(new Uint8Array(32));
    this.offered = this.pc.localDescription.sdp;
    const nonce = base64(this.nonce);
    this.#first ??= nonce;
    return { offer: this.offered, nonce };
  }

  // Checks that the phone with that key has answered this very offer, as it signs what kind
  // of call it is.
  async believe(said, fingerprint, kind) {
    const forged = new Trouble("The answer is not from this phone: somebody between has changed it, and there is no call. If the phone was just replaced, load the page again; else tell whoever keeps the storing server.");
    const text = new TextEncoder();
    if (!said.key || !said.signature || hex(await hash(bytes(said.key))) !== fingerprint) throw forged;
    let key;
    try {
      key = await crypto.subtle.importKey("spki", bytes(said.key), { name: "Ed25519" }, false, ["verify"]);
    } catch {
      throw new Trouble("This browser cannot check the key of the phone. Use a newer one: Chrome or Edge 137, Firefox 130, Safari 17, or later.");
    }
    const signed = new Blob([text.encode(kind + "\0"), this.nonce, await hash(text.encode(this.offered)), await hash(text.encode(said.answer))]);
    if (!await crypto.subtle.verify({ name: "Ed25519" }, key, bytes(said.signature), await signed.arrayBuffer())) throw forged;
  }

  take(answer) { return this.pc.setRemoteDescription({ type: "answer", sdp: answer }); }

  // Both hear each other from now on.
  answer() {
    this.answered = true;
    at("keys").hidden = at("hangup").hidden = false;
    this.#show(this.connected);
  }

  say(word) {
    const open = this.words?.readyState === "open";
    if (open) this.words.send(word);
    return open;
  }

  // Ends the call with a last word to the phone, which closes when it has heard that, which
  // may take as long as a move of it: then is called where it does not, and at once where it
  // cannot hear.
  part(word, then) {
    if (this.parted) return;
    this.parted = true;
    release(this.microphone);
    if (this.say(word)) setTimeout(then, 6000); else then();
  }

  // Lets go of all that the call has.
  close() {
    this.over = true;
    release(this.microphone);
    this.pc?.close();
  }

  press(key) {
    const dtmf = this.answered && this.sender.dtmf;
    if (dtmf?.canInsertDTMF) dtmf.insertDTMF(dtmf.toneBuffer + key, 100, 70);
  }
}

// Shows that there is no call.
export function idle(text) {
  at("voice").srcObject = null;
  at("keys").hidden = at("hangup").hidden = true;
  say(text);
}

// Has keypad and keyboard press digits of the call that there is, which ends with the page.
export function listen(call) {
  at("keys").addEventListener("click", e => { if (e.target.dataset.key) call()?.press(e.target.dataset.key); });
  addEventListener("keydown", e => {
    if (!e.ctrlKey && !e.altKey && !e.metaKey && /^[0-9*#]$/.test(e.key)) call()?.press(e.key);
  });
  addEventListener("pagehide", () => call()?.say("hangup"));
}
