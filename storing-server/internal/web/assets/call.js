// Calls a phone.
import { at, complain, explain, idle, listen, microphone, post, say, show, Talk, Trouble } from "./talk.js";

const { number, key, stun, relay, relayName, relayPassword } = at("call").dataset;
const dial = at("dial"), hangup = at("hangup");
const reasons = {
  hangup: "Call ended", busy: "The phone is busy", declined: "The call was declined", "no answer": "Nobody answers",
  "no common codec": "This browser and the phone have no codec in common", failed: "The phone cannot take the call now",
};
let call = null; // a Talk

// What this browser remembers of phones that have answered it: by number, the key. Where it
// may keep nothing each key is believed.
const memory = "key of " + number;
const known = () => { try { return localStorage.getItem(memory); } catch { return null; } };
const remember = () => { try { localStorage.setItem(memory, key); } catch { /* as said */ } };

// Shows that the number has another key than before. Neither a call nor another visit hides
// that: only whoever says that the phone is new, or the old key.
function compare() {
  const was = known(), changed = was !== null && was !== key;
  show("key-now", key.slice(0, 16));
  show("key-was", changed ? was.slice(0, 16) : "");
  at("new-key").hidden = !changed;
}

async function begin() {
  complain("");
  say("Asking for the microphone");
  dial.hidden = true;
  hangup.hidden = false;
  hangup.focus();
  const own = call = new Talk();
  own.connected = "Connected";
  try {
    own.microphone = await microphone();
    if (own.over) { own.close(); return; } // hung up meanwhile
    say("Calling");
    const [voice] = own.microphone.getAudioTracks();
    voice.enabled = false; // nothing is heard there before it is answered
    own.connect({ stun, relay: relay && { port: relay, name: relayName, password: relayPassword } }, voice, {
      number, key,
      told: word => told(own, word),
      lost: trouble => {
        end(own, "Call ended");
        if (trouble) complain(trouble);
      },
    });
    const offer = await own.offer();
    if (own.over) return;
    const said = await post(location.href, offer);
    if (said.error) throw new Trouble(said.error);
    if (said.refusal) throw new Trouble((reasons[said.refusal] ?? "The phone does not take the call: " + said.refusal) + ". Call again later.");
    await own.believe(said, key, "flexphone browser call 1");
    if (known() === null) remember();
    if (!own.over) await own.take(said.answer);
  } catch (e) {
    if (own.over) return;
    end(own, "No call");
    explain(e);
  }
}

// What the phone says.
function told(own, word) {
  if (word === "ringing") say("Ringing");
  if (word === "answered") {
    own.microphone.getAudioTracks().forEach(t => { t.enabled = true; });
    own.answer();
  }
  if (word.startsWith("ended ")) end(own, reasons[word.slice(6)] ?? "Call ended: " + word.slice(6));
}

function end(own, text) {
  if (call !== own) return;
  call = null;
  own.close();
  idle(text);
  dial.hidden = false;
  dial.focus();
}

dial.addEventListener("click", begin);
hangup.addEventListener("click", () => {
  const own = call;
  if (!own) return;
  say("Hanging up");
  own.part("hangup", () => end(own, "Call ended"));
});
at("accept").addEventListener("click", () => {
  remember();
  compare();
  (call ? hangup : dial).focus();
});
listen(() => call);
compare();
