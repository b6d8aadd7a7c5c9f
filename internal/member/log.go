package member

import (
	"io"
	"log/slog"
	"strings"
)

// NewLogger writes lines of JSON in the form of etcd's own, with which they share
// the container's standard error.
func NewLogger(output io.Writer) *slog.Logger {
	handler := slog.NewJSONHandler(output, &slog.HandlerOptions{ReplaceAttr: likeEtcd})
	return slog.New(handler).With("logger", "guard")
}

func likeEtcd(groups []string, a slog.Attr) slog.Attr {
	if len(groups) > 0 {
		return a
	}
	switch a.Key {
	case slog.TimeKey:
		return slog.String("ts", a.Value.Time().UTC().Format("2006-01-02T15:04:05.000000Z0700"))
	case slog.LevelKey:
		return slog.String("level", strings.ToLower(a.Value.String()))
	}
	return a
}
