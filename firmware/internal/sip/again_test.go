package sip

import (
	"testing"

	gosip "github.com/emiago/sipgo/sip"
)

// A 200 that comes twice in one moment, as over a link that was down, is looked at in either
// order. The one that overtakes the first is no answer of another phone, which would be sent
// a BYE: it has the call's own tag.
func TestRepeatedAnswerOvertakesTheFirst(t *testing.T) {
	c := &Call{d: &dialog{callID: "1", localTag: "ours"}, waits: map[*exchange]struct{}{}}
	invite := gosip.NewRequest(gosip.INVITE, gosip.Uri{Scheme: "sip", User: "102", Host: "192.0.2.9"})
	invite.AppendHeader(&gosip.ToHeader{Address: invite.Recipient, Params: gosip.NewParams()})
	answer := gosip.NewResponseFromRequest(invite, 200, "OK", nil)
	answer.To().Params.Add("tag", "theirs")

	i := &inviting{req: invite, x: new(exchange)}
	c.inviteAgain(t.Context(), i, answer)
	if len(i.others) != 0 || len(c.waits) != 0 {
		t.Errorf("%d other phones have answered, %d requests go to them", len(i.others), len(c.waits))
	}
	if i.done {
		t.Error("the first is not looked at any more")
	}
}
