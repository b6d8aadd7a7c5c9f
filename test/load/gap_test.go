package load

import (
	"encoding/json"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

var began = time.Date(2030, 1, 2, 3, 4, 5, 0, time.UTC)

func ms(n int64) int64        { return n * int64(time.Millisecond) }
func after(n int64) time.Time { return began.Add(time.Duration(ms(n))) }

// gap from one millisecond to another.
func gap(from, to int64) Gap { return Gap{From: after(from), To: after(to)} }

func open(from, to int64) Gap { return Gap{From: after(from), To: after(to), Open: true} }

func TestLongestGap(t *testing.T) {
	// Acknowledgements in milliseconds; the measurement ends at 1000.
	for name, c := range map[string]struct {
		acks     []int64
		from, to int64
		want     Gap
	}{
		"the longest of the whole time":                     {[]int64{10, 20, 300, 310, 990}, 0, 1000, gap(310, 990)},
		"one before the window does not count":              {[]int64{10, 500, 510, 990}, 600, 700, gap(510, 990)},
		"one that ends inside the window counts whole":      {[]int64{10, 500, 510, 520, 530, 990}, 400, 520, gap(10, 500)},
		"one that begins inside the window counts whole":    {[]int64{400, 410, 980}, 400, 411, gap(410, 980)},
		"one that surrounds the window counts whole":        {[]int64{10, 900, 950}, 300, 310, gap(10, 900)},
		"one that begins at the end of the window does not": {[]int64{400, 410, 980}, 400, 410, gap(400, 410)},
		"one that ends at the start of the window does not": {[]int64{10, 500, 510, 990}, 500, 505, gap(500, 510)},
		"of two equal ones the first":                       {[]int64{100, 200, 300, 999}, 150, 250, gap(100, 200)},
		"nothing is acknowledged any more":                  {[]int64{10, 20, 30}, 0, 1000, open(30, 1000)},
		"the window lies after the last acknowledgement":    {[]int64{10, 20, 30}, 500, 600, open(30, 1000)},
		"the window lies after the measurement":             {[]int64{10, 20, 990}, 1000, 2000, gap(0, 0)},
		"the window lies before the first acknowledgement":  {[]int64{500, 990}, 0, 400, gap(0, 0)},
		"the time before the first acknowledgement is not":  {[]int64{900, 990}, 0, 1000, gap(900, 990)},
		"one acknowledgement alone":                         {[]int64{400}, 0, 1000, open(400, 1000)},
		"none at all":                                       {nil, 0, 1000, gap(0, 0)},
	} {
		t.Run(name, func(t *testing.T) {
			line := timeline{began: began, end: ms(1000)}
			for _, a := range c.acks {
				line.acks = append(line.acks, ms(a))
			}
			if diff := cmp.Diff(c.want, line.longest(after(c.from), after(c.to))); diff != "" {
				t.Errorf("longest gap (-want +got):\n%s", diff)
			}
		})
	}
}

// handMade is a load of two writers that has ended, with a write per
// millisecond given; those below zero were not acknowledged.
func handMade(acks ...[]int64) *Load {
	l := prepare(Config{Writers: len(acks), Contenders: 1, ContendedKeys: 1}.withDefaults())
	l.began, l.run = began, "r"
	revision := int64(1)
	for i, list := range acks {
		for _, at := range list {
			done := write{at: ms(at), revision: revision}
			if at < 0 {
				done = write{revision: outcomeUnknown}
			} else {
				revision++
			}
			l.writers[i].writes = append(l.writers[i].writes, done)
		}
	}
	return l
}

func TestGapsOfTheClusterAndOfEachWriter(t *testing.T) {
	l := handMade([]int64{10, 110, -1, 400, 500}, []int64{60, 160, 260, -1, -1, 490})
	if diff := cmp.Diff(gap(260, 400), l.clusterTimeline(after(510)).all()); diff != "" {
		t.Errorf("of the cluster (-want +got):\n%s", diff)
	}
	r := l.measure(after(510))
	if diff := cmp.Diff([]Gap{gap(110, 400), gap(260, 490)}, []Gap{r.Writers[0].Gap, r.Writers[1].Gap}); diff != "" {
		t.Errorf("of the writers (-want +got):\n%s", diff)
	}
	l.config.MarkWindow = 100 * time.Millisecond
	l.marks = []Mark{{Name: "leader killed", At: after(300)}, {Name: "calm", At: after(20)}}
	want := []MarkGap{
		{Mark: l.marks[0], Gap: gap(260, 400), Writer: 0, WriterGap: gap(110, 400)},
		{Mark: l.marks[1], Gap: gap(10, 60), Writer: 0, WriterGap: gap(110, 400)},
	}
	if diff := cmp.Diff(want, l.measure(after(510)).Marks); diff != "" {
		t.Errorf("of the marks (-want +got):\n%s", diff)
	}
}

func TestAGapAsText(t *testing.T) {
	if got, want := open(1500, 2750).String(), "1.25s at 03:04:06.500 (not ended)"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	text, err := json.Marshal(gap(1500, 2750))
	if err != nil {
		t.Fatal(err)
	}
	if got, want := string(text), `{"milliseconds":1250,"from":"2030-01-02T03:04:06.5Z","to":"2030-01-02T03:04:07.75Z"}`; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}
