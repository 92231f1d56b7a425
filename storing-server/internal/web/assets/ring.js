// Takes calls of phones: the storing server says that one calls, and the page makes an offer.
import { at, complain, explain, idle, listen, microphone, post, release, say, show, Talk } from "./talk.js";

const take = at("take"), answer = at("answer"), decline = at("decline"), hangup = at("hangup");
const ringMost = 60000; // milliseconds, as a phone rings
const title = document.title;
let number = "", source = null, bell = null;
let call = null; // a Talk, of a phone that calls: its id, from, and whether it rings

// Begins to take calls: with a click, so that the browser lets the page ring.
async function begin() {
  if (take.disabled) return;
  complain("");
  take.disabled = true;
  try {
    release(await microphone());
  } catch (e) {
    take.disabled = false;
    explain(e);
    return;
  }
  take.hidden = at("asks").hidden = true;
  bell = new AudioContext();
  show("line", "Another tab of this browser takes the calls");
  navigator.locks.request("flexphone phone " + at("phone").dataset.lock, () => {
    open();
    return new Promise(() => {}); // for as long as the page is there
  });
}

function open() {
  show("line", number ? "Connecting" : "Asking for a number");
  source = new EventSource("/phone/calls" + location.search);
  source.onmessage = e => heard(JSON.parse(e.data));
  source.onerror = () => {
    source.close();
    show("line", "The storing server cannot be reached: trying again");
    setTimeout(open, 1000 + 2000 * Math.random());
  };
}

// What the storing server says.
function heard(word) {
  if (word.barred) {
    source.close();
    at("called").hidden = true;
    show("line", "Not called any more");
    complain(word.barred);
  }
  if (word.number) {
    number = word.number;
    show("number", number);
    at("called").hidden = false;
  }
  if (number && source.readyState === EventSource.OPEN) show("line", "Ready: phones call " + number);
  if (word.call && word.over) {
    if (call?.id === word.call && !call.offers) miss(call);
  } else if (word.call) ring(word);
}

const reply = (id, body) => post("/phone/calls/" + id + location.search, body);
const refuse = (id, reason) => reply(id + "/refusal", { reason }).catch(() => {}); // then it is over anyway

// A phone calls: it rings here once page and phone speak directly.
async function ring(word) {
  if (call) { refuse(word.call, "busy"); return; }
  const own = call = Object.assign(new Talk(), { id: word.call, from: word.from, connected: "Connected with " + word.from });
  complain("");
  try {
    own.connect(word, null, { // the microphone comes with the answer
      number: word.from, key: word.key,
      opened: () => alarm(own),
      told: said => { if (said.startsWith("ended ")) miss(own); },
      lost: trouble => {
        miss(own);
        if (trouble) complain(trouble);
      },
    });
    const offer = await own.offer();
    if (own.over) return;
    own.offers = true;
    const said = await reply(own.id, offer);
    if (own.over) return;
    if (said.error || said.refusal) { // it has hung up, or another page has it
      end(own, "");
      return;
    }
    await own.believe(said, word.key, "flexphone call to a browser 1");
    if (!own.over) await own.take(said.answer);
  } catch (e) {
    if (own.over) return;
    if (!own.offers) refuse(own.id, "failed");
    miss(own);
    explain(e);
  }
}

// Rings, until it is answered or somebody has had enough.
function alarm(own) {
  if (own.over) return;
  own.say("ringing");
  own.rings = true;
  say(own.from + " calls");
  document.title = own.from + " calls";
  answer.hidden = decline.hidden = false;
  answer.disabled = false;
  answer.focus();
  bell.resume();
  const sound = () => {
    const tone = bell.createOscillator(), level = bell.createGain();
    tone.frequency.value = 425; // ITU-T E.180
    level.gain.value = 0.2;
    tone.connect(level).connect(bell.destination);
    tone.start();
    tone.stop(bell.currentTime + 1);
    own.tone = tone;
  };
  sound();
  own.bell = setInterval(sound, 4000);
  own.late = setTimeout(() => part(own, "ended no answer", "Missed call from " + own.from), ringMost);
}

function quiet(own) {
  clearInterval(own.bell);
  clearTimeout(own.late);
  own.tone?.stop();
  own.rings = false;
  document.title = title;
  answer.hidden = decline.hidden = true;
}

async function lift() {
  const own = call;
  if (!own?.rings) return;
  answer.disabled = true;
  try {
    const heard = await microphone();
    if (!own.rings) {
      release(heard);
      return;
    }
    own.microphone = heard;
    await own.sender.replaceTrack(heard.getAudioTracks()[0]);
    if (!own.rings) return;
    own.say("answered");
  } catch (e) {
    answer.disabled = false;
    if (own.rings) explain(e); // it rings on
    return;
  }
  quiet(own);
  own.answer();
  hangup.focus();
}

function part(own, word, text) {
  own.ends ??= text;
  quiet(own);
  hangup.hidden = true;
  own.part(word, () => end(own, text));
}

const miss = own => end(own, own.answered ? "Call ended" : "Missed call from " + own.from);

function end(own, text) {
  if (call !== own) return;
  call = null;
  quiet(own);
  own.close();
  idle(own.ends ?? text);
}

take.addEventListener("click", begin);
answer.addEventListener("click", lift);
decline.addEventListener("click", () => { if (call) part(call, "ended declined", "Declined"); });
hangup.addEventListener("click", () => { if (call) part(call, "hangup", "Call ended"); });
addEventListener("keydown", e => { if (e.key === "Escape" && call?.rings) part(call, "ended declined", "Declined"); });
listen(() => call);
// Who has let it before need not click again, though a browser may not let it sound then.
navigator.permissions?.query({ name: "microphone" }).then(p => { if (p.state === "granted") begin(); }, () => {});
