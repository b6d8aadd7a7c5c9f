package leader

import "sync"

// crew are the calls of Do that have not returned, of whichever term: one that outlives
// its term works on, and no Lease is released meanwhile.
type crew struct {
	mu      sync.Mutex
	working int
	// gone is closed when nobody works any more; nil while nobody does.
	gone chan struct{}
}

func (c *crew) enter() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.working++; c.working == 1 {
		c.gone = make(chan struct{})
	}
}

func (c *crew) leave() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.working--; c.working == 0 {
		close(c.gone)
		c.gone = nil
	}
}

// idle is closed when nobody works any more; nil if nobody does.
func (c *crew) idle() <-chan struct{} {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.gone
}

// whenGone does something once nobody works any more.
func (c *crew) whenGone(do func()) {
	gone := c.idle()
	if gone == nil {
		do()
		return
	}
	go func() {
		<-gone
		do()
	}()
}

func (c *crew) busy() bool { return c.idle() != nil }
