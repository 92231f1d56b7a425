package main

import (
	"fmt"

	"flexphone/storing-server/internal/trust"
)

// TrustFlags say who may own a row, and who may ask for one.
type TrustFlags struct {
	Enrol    string  `help:"What a phone that nobody owns yet must bring: nothing (its first key owns it), to be on the list of --expected or else a token (list), the same or to wait until the operator lets it in (approve), a one-time token ('token new'), or a certificate issued by --ca." enum:"open,list,approve,token,ca" default:"open"`
	CA       string  `name:"ca" help:"PEM file of the authorities that issue phones' certificates, for --enrol ca." placeholder:"FILE"`
	Expected string  `help:"File of the MACs of phones that may enrol, one a line, for --enrol list, or approve. SIGHUP has it read again." placeholder:"FILE"`
	Resolve  string  `help:"Who may ask where a phone is: enrolled phones, anyone, or nobody. DNS is anyone." enum:"enrolled,anyone,nobody" default:"enrolled"`
	Lookups  float64 `help:"How many of them a client may ask for each second in the long run, a minute's worth at once; 0: as many as it likes; ${default} by default." default:"2" placeholder:"N"`
}

// policy adds to p what the flags say.
func (f TrustFlags) policy(p *trust.Policy) (err error) {
	if trust.Enrolment(f.Enrol) == trust.EnrolApprove {
		p.Waiting = trust.NewWaiting(p.Exempt)
	}
	p.Enrol, p.Resolve = trust.Enrolment(f.Enrol), trust.Resolution(f.Resolve)
	switch {
	case f.Lookups < 0 || f.Lookups > 1e6:
		return &usageError{fmt.Sprintf("--lookups=%v: want 0 to 1000000", f.Lookups)}
	case f.Lookups > 0:
		p.Lookups = trust.NewLookups(f.Lookups, p.Exempt)
	}
	switch {
	case p.Enrol == trust.EnrolList && f.Expected == "":
		return &usageError{"--enrol=list: name the file of phones with --expected=FILE"}
	case p.Enrol != trust.EnrolList && p.Enrol != trust.EnrolApprove && f.Expected != "":
		return &usageError{"--expected: of use only with --enrol=list or approve"}
	case f.Expected != "":
		if p.Expected, err = trust.LoadExpected(f.Expected); err != nil {
			return err
		}
	}
	switch {
	case p.Enrol == trust.EnrolCA && f.CA == "":
		return &usageError{"--enrol=ca: name the authorities' certificates with --ca=FILE"}
	case p.Enrol != trust.EnrolCA && f.CA != "":
		return &usageError{"--ca: of use only with --enrol=ca"}
	case f.CA != "":
		p.Authorities, err = trust.LoadAuthorities(f.CA)
	}
	return err
}
