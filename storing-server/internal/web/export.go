package web

import (
	"encoding/csv"
	"net/http"
	"strconv"
	"strings"
	"time"

	"flexphone/registry-client/wire"
)

// exportRows is how many rows of an export are read at once: others may change
// rows in between.
const exportRows = 1000

// phonesExport sends the rows that are searched for, or all, as CSV (RFC 4180).
// A row is as it was when its part was read.
func (s *Server) phonesExport(w http.ResponseWriter, r *http.Request, _ *session) {
	sel, err := selectionOf(r.URL.Query().Get("q"))
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	w.Header().Set("Content-Type", "text/csv; charset=utf-8; header=present")
	w.Header().Set("Content-Disposition", `attachment; filename="phones.csv"`)
	// A million rows take longer than a page may.
	_ = http.NewResponseController(w).SetWriteDeadline(time.Now().Add(exportMost))
	out := csv.NewWriter(w)
	out.UseCRLF = true
	_ = out.Write([]string{"mac", "digits", "number", "state", "since", "addresses", "sip", "sips", "expiry", "sequence", "fingerprint", "name", "labels"}) // errors stay with Error
	for at, more := (wire.MAC{}), true; more && out.Error() == nil; {
		rows, left, err := s.o.Rows.Page(r.Context(), sel, at, false, exportRows)
		if err != nil {
			return // who has gone does not want it
		}
		for _, row := range rows {
			x := s.row(row)
			_ = out.Write([]string{
				x.MAC.String(), x.Digits, x.Number, string(x.State), x.Since.Format(time.RFC3339), strings.Join(x.Addrs, " "),
				strconv.Itoa(int(x.SIP)), strconv.Itoa(int(x.SIPS)), x.Expiry.Format(time.RFC3339), strconv.FormatUint(x.Sequence, 10), x.Fingerprint.String(),
				inert(x.Name), inert(strings.Join(x.Labels, ", ")),
			})
			at = row.MAC
		}
		more = left
		out.Flush()
	}
}

// inert puts an apostrophe before what a spreadsheet would take for a formula.
func inert(text string) string {
	if text != "" && strings.ContainsRune("=+-@", rune(text[0])) {
		return "'" + text
	}
	return text
}

// exportMost bounds an export.
const exportMost = 10 * time.Minute
