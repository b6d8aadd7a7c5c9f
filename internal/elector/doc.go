// Package elector is the leader-elector: it contends beside an application and says
// over HTTP, with a label, a file, hooks or a child process who leads. What must not
// outlive the leadership runs as work on the term, so that the Lease is released only
// after it has ended.
package elector
