// Of a server that was killed JACK does not always say that it is gone, and
// PortAudio waits ten minutes for it in each call.

// jack_give_up makes sure that JACK does not call PortAudio any more. It blocks
// while the server stands still.
void jack_give_up(void);

// jack_is_down tells PortAudio that the server is gone: a call that waits for it
// goes on.
void jack_is_down(void);

// jack_forget is called when PortAudio has ended.
void jack_forget(void);
