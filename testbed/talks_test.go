package testbed

import (
	"slices"
	"sync"
	"testing"
)

// BenchmarkTalks has two phones talk again and again, listens once at either end
// each time, and says how much arrived: what Enough, guestEnough and Fair rest upon.
func BenchmarkTalks(b *testing.B) {
	ctx, _, phones := town(b, Config{}, 2)
	var arrived []float64
	for b.Loop() {
		talk, err := Call(ctx, phones[0], phones[1], "102")
		must(b, err)
		var heard [2]Heard
		var errs [2]error
		var both sync.WaitGroup
		for i := range phones {
			both.Go(func() { heard[i], _, errs[i] = phones[i].hearOnce(ctx, phones[1-i].spoken, nil, phones[1-i]) })
		}
		both.Wait()
		for i := range heard {
			must(b, errs[i])
			arrived = append(arrived, heard[i].Arrived)
			b.Logf("%.2f arrived; %s", heard[i].Arrived, heard[i].Pace)
		}
		must(b, talk.HangUp(ctx, phones[1]))
	}
	slices.Sort(arrived)
	b.Logf("arrived, of %d: %.2f", len(arrived), arrived)
	b.ReportMetric(arrived[0], "least")
	b.ReportMetric(arrived[len(arrived)/10], "tenth")
	b.ReportMetric(arrived[len(arrived)/2], "median")
}
