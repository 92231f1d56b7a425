// Calls a phone with WebRTC. The storing server passes one offer and one answer on; the
// phone signs both with the key of its row, so that nobody between can put another
// fingerprint into either. What is said after that goes directly.
"use strict";
const card = document.getElementById("call");
const at = id => document.getElementById(id);
const dial = at("dial"), hangup = at("hangup"), keys = at("keys"), voice = at("voice");
const reasons = {
  hangup: "Call ended", busy: "The phone is busy", declined: "The call was declined", "no answer": "Nobody answers",
  "no common codec": "This browser and the phone have no codec in common", failed: "The phone cannot take the call now",
};
let call = null; // {pc, words, microphone, sender, answered}

const say = text => { at("state").textContent = text; };
const complain = text => {
  at("trouble").textContent = text;
  at("trouble").hidden = text === "";
};

// A Trouble is what the user is told, with what to do.
class Trouble extends Error {}

async function microphone() {
  if (!navigator.mediaDevices) throw new Trouble("The browser gives no microphone to a page that came without HTTPS. Open this page by https, or on the machine of the storing server.");
  try {
    return await navigator.mediaDevices.getUserMedia({ audio: { echoCancellation: true, noiseSuppression: true, autoGainControl: true } });
  } catch (e) {
    if (e.name === "NotAllowedError") throw new Trouble("The browser does not let this page use the microphone. Allow it beside the address of the page, and call again.");
    if (e.name === "NotFoundError") throw new Trouble("There is no microphone. Plug one in, and call again.");
    throw new Trouble("The microphone does not work (" + e.name + "). Close other programs that use it, and call again.");
  }
}

const gathered = pc => new Promise(done => {
  if (pc.iceGatheringState === "complete") { done(); return; }
  pc.addEventListener("icegatheringstatechange", () => { if (pc.iceGatheringState === "complete") done(); });
  setTimeout(done, 2000); // with the addresses that there are
});

const bytes = text => Uint8Array.from(atob(text), c => c.charCodeAt(0));
const base64 = data => btoa(String.fromCharCode(...data));
const hash = async data => new Uint8Array(await crypto.subtle.digest("SHA-256", data));
const hex = data => Array.from(data, b => b.toString(16).padStart(2, "0")).join("");

// Checks that the phone itself has answered this very offer.
async function believe(answer, offer, nonce) {
  const forged = new Trouble("The answer is not from this phone: somebody between has changed it. The call was not made. Tell whoever keeps the storing server.");
  const text = new TextEncoder();
  if (!answer.key || !answer.signature || hex(await hash(bytes(answer.key))) !== card.dataset.key) throw forged;
  let key;
  try {
    key = await crypto.subtle.importKey("spki", bytes(answer.key), { name: "Ed25519" }, false, ["verify"]);
  } catch {
    throw new Trouble("This browser cannot check the key of the phone. Use a newer one: Chrome or Edge 137, Firefox 130, Safari 17, or later.");
  }
  const signed = new Blob([text.encode("flexphone browser call 1\0"), nonce, await hash(text.encode(offer)), await hash(text.encode(answer.answer))]);
  if (!await crypto.subtle.verify({ name: "Ed25519" }, key, bytes(answer.signature), await signed.arrayBuffer())) throw forged;
}

function onlyOpus(pc) {
  const all = RTCRtpReceiver.getCapabilities?.("audio")?.codecs ?? [];
  const some = all.filter(c => /opus|telephone-event/i.test(c.mimeType));
  const t = pc.getTransceivers()[0];
  if (some.length > 0 && t?.setCodecPreferences) t.setCodecPreferences(some);
}

async function ask(offer, nonce) {
  let response, answer;
  try {
    response = await fetch(location.href, {
      method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify({ offer, nonce: base64(nonce) }),
    });
    answer = await response.json();
  } catch {
    throw new Trouble(response ? "The storing server does not answer as it should. Load the page again." : "The storing server cannot be reached. Look whether this machine is online, and call again.");
  }
  if (answer.error) throw new Trouble(answer.error);
  if (answer.refusal) throw new Trouble((reasons[answer.refusal] ?? "The phone does not take the call: " + answer.refusal) + ". Call again later.");
  return answer;
}

async function begin() {
  complain("");
  say("Asking for the microphone");
  dial.hidden = true;
  hangup.hidden = false;
  hangup.focus();
  const own = call = {};
  const gone = () => call !== own;
  try {
    const heard = await microphone();
    own.microphone = heard;
    if (gone()) { stop(own); return; }
    say("Calling");
    const pc = own.pc = new RTCPeerConnection();
    const words = own.words = pc.createDataChannel("call", { negotiated: true, id: 0 });
    heard.getAudioTracks().forEach(t => { t.enabled = false; }); // nothing is heard there before it is answered
    own.sender = pc.addTrack(heard.getAudioTracks()[0], heard);
    onlyOpus(pc);
    pc.ontrack = e => { voice.srcObject = e.streams[0] ?? new MediaStream([e.track]); };
    words.onmessage = e => told(own, String(e.data));
    words.onclose = () => end(own, "Call ended");
    pc.onconnectionstatechange = () => {
      if (gone()) return;
      if (pc.connectionState === "disconnected") say("Reconnecting");
      if (pc.connectionState === "connected" && own.answered) say("Connected");
      if (pc.connectionState === "failed") {
        end(own, "Call ended");
        complain("The phone cannot be reached directly from this network. Try another network, and call again.");
      }
    };
    await pc.setLocalDescription();
    await gathered(pc);
    if (gone()) return;
    const offer = pc.localDescription.sdp;
    const nonce = crypto.getRandomValues(new Uint8Array(32));
    const answer = await ask(offer, nonce);
    await believe(answer, offer, nonce);
    if (gone()) return;
    await pc.setRemoteDescription({ type: "answer", sdp: answer.answer });
  } catch (e) {
    if (gone()) { stop(own); return; }
    end(own, "No call");
    complain(e instanceof Trouble ? e.message : "The call did not work (" + e.name + ": " + e.message + "). Load the page again.");
  }
}

// What the phone says.
function told(own, word) {
  if (call !== own) return;
  if (word === "ringing") say("Ringing");
  if (word === "answered" || word === "retrieve") {
    own.answered = true;
    own.microphone.getAudioTracks().forEach(t => { t.enabled = true; });
    keys.hidden = false;
    say("Connected");
  }
  if (word === "hold") say("On hold");
  if (word.startsWith("ended ")) end(own, reasons[word.slice(6)] ?? "Call ended: " + word.slice(6));
}

function stop(own) {
  own.microphone?.getTracks().forEach(t => t.stop());
  own.pc?.close();
}

function end(own, text) {
  if (call !== own) return;
  call = null;
  stop(own);
  voice.srcObject = null;
  keys.hidden = true;
  hangup.hidden = true;
  dial.hidden = false;
  dial.focus();
  say(text);
}

function leave() {
  const own = call;
  if (!own) return;
  const words = own.words;
  if (words?.readyState !== "open") { end(own, "Call ended"); return; }
  words.send("hangup"); // the phone closes when it has heard that, which may take as long as a move of it
  own.microphone.getTracks().forEach(t => t.stop());
  say("Hanging up");
  setTimeout(() => end(own, "Call ended"), 6000);
}

function press(key) {
  if (call?.answered && call.sender.dtmf?.canInsertDTMF) call.sender.dtmf.insertDTMF(call.sender.dtmf.toneBuffer + key, 100, 70);
}

dial.addEventListener("click", begin);
hangup.addEventListener("click", leave);
keys.addEventListener("click", e => { if (e.target.dataset.key) press(e.target.dataset.key); });
addEventListener("keydown", e => {
  if (!e.ctrlKey && !e.altKey && !e.metaKey && /^[0-9*#]$/.test(e.key)) press(e.key);
});
addEventListener("pagehide", () => { if (call?.words?.readyState === "open") call.words.send("hangup"); });
