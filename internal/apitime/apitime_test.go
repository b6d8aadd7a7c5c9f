package apitime

import (
	"net/http"
	"net/http/httptest"
	"testing"
	"time"
)

// TestClock: the Date of an answer is the server's time, and it goes on from there.
func TestClock(t *testing.T) {
	date := ""
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.Header().Set("Date", date) }))
	defer server.Close()
	clock := &Clock{}
	client := &http.Client{Transport: clock.Wrap(http.DefaultTransport)}
	ask := func() time.Time {
		t.Helper()
		r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, server.URL, nil)
		if err != nil {
			t.Fatal(err)
		}
		answer, err := client.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		defer answer.Body.Close()
		return clock.Now()
	}
	if now := clock.Now(); !now.IsZero() {
		t.Errorf("before the first answer it is %v", now)
	}
	if date = "yesterday"; !ask().IsZero() {
		t.Error("a Date that cannot be read is a time")
	}
	want := time.Date(2030, 1, 2, 3, 4, 5, 0, time.UTC)
	date = want.Format(http.TimeFormat)
	if got := ask(); got.Before(want) || got.After(want.Add(time.Minute)) {
		t.Errorf("it is %v, want %v", got, want)
	}
	if was, is := clock.Now(), clock.Now(); is.Before(was) {
		t.Errorf("it went back from %v to %v", was, is)
	}
	date = "yesterday"
	if got := ask(); got.Before(want) {
		t.Errorf("it has forgotten the time: %v", got)
	}
	server.Close()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, server.URL, nil)
	if err != nil {
		t.Fatal(err)
	}
	if answer, err := client.Do(r); err == nil {
		answer.Body.Close()
		t.Error("a server that is gone answers")
	}
}

func TestBothClocks(t *testing.T) {
	early, late := time.Unix(1e9, 0), time.Unix(2e9, 0)
	at := func(t time.Time) Source { return func() time.Time { return t } }
	for name, tc := range map[string]struct {
		source         Source
		local          time.Time
		earlier, later time.Time
	}{
		"the machine's is ahead":  {at(early), late, early, late},
		"the server's is ahead":   {at(late), early, early, late},
		"there is one only":       {nil, early, early, early},
		"the other was not heard": {at(time.Time{}), early, time.Time{}, early},
	} {
		if earlier, later := tc.source.Earlier(tc.local), tc.source.Later(tc.local); !earlier.Equal(tc.earlier) || !later.Equal(tc.later) {
			t.Errorf("%s: %v and %v, want %v and %v", name, earlier, later, tc.earlier, tc.later)
		}
	}
}
