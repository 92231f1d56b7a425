package main

import (
	"context"
	"errors"
	"time"

	"flexphone/testbed"
)

// browser has a page call 101 by a link that the operator makes.
func (t *teller) browser(ctx context.Context) error {
	words, err := testbed.Speech("numbers")
	if err != nil {
		return err
	}
	page, err := t.bed.AddBrowser(ctx, words)
	if errors.Is(err, testbed.ErrNoBrowser) {
		t.say("", 0, "there is none here: apt-get install chromium chromium-driver shows it")
		return nil
	}
	if err != nil {
		return err
	}
	defer page.Close(ctx)
	link, err := t.bed.Server.Link(ctx, "Ada", "--number=101", "--times=1")
	if err != nil {
		return err
	}
	t.say("", 0, "the operator makes a link for Ada, who opens it: %s/call/101?link=…", testbed.Site())
	if err := errors.Join(page.Load(ctx, link), page.PlainVoice(ctx)); err != nil {
		return err
	}
	return t.callOfPage(ctx, page, "Ada")
}

// callOfPage has a page that is open call 101, by a link for name.
func (t *teller) callOfPage(ctx context.Context, page *testbed.Browser, name string) error {
	one := t.one
	one.Mark()
	clicked := time.Now()
	if err := page.Click(ctx, "#dial"); err != nil {
		return err
	}
	rang, err := one.Await(ctx, "ringing", "from", "from a browser: "+name)
	if err != nil {
		return err
	}
	t.say("S26", rang.Time.Sub(clicked), "Call is clicked: %s rings, and shows `from a browser: %s`", one.Name, name)
	if err := one.OffHook(ctx); err != nil {
		return err
	}
	e, err := one.Await(ctx, "established")
	if err != nil {
		return err
	}
	t.say("S27", 0, "it answers; the call is established (%s, %s)", e.Field("codec"), e.Field("security"))
	heard, err := one.HearBrowser(ctx, page)
	if err == nil {
		err = t.judge(one.Name+" hears the page", heard)
	}
	if err != nil {
		return err
	}
	if heard, err = page.Hear(ctx, one.Spoken()); err == nil {
		err = t.judge("the page hears "+one.Name, heard)
	}
	if err != nil {
		return err
	}
	if err := page.Click(ctx, "#hangup"); err != nil {
		return err
	}
	if e, err = one.Await(ctx, "ended"); err != nil {
		return err
	}
	t.say("S28", 0, "the page hangs up; the phone is free again (%s)", e.Field("reason"))
	return one.OnHook(ctx)
}
