package pool

// Out collects what one call produces for one side. As long as that is one stretch of the
// input as it came, nothing is copied.
type Out struct {
	in       []byte
	from, to int
	buf      []byte
	copied   bool
}

// begin starts anew over an input.
func (o *Out) begin(in []byte) {
	o.in, o.from, o.to, o.copied = in, 0, 0, false
	if cap(o.buf) > 256<<10 {
		o.buf = nil
	}
	o.buf = o.buf[:0]
}

// pass lets in[i:j] through.
func (o *Out) pass(i, j int) {
	switch {
	case i == j:
	case o.copied:
		o.buf = append(o.buf, o.in[i:j]...)
	case o.from == o.to:
		o.from, o.to = i, j
	case o.to == i:
		o.to = j
	default:
		o.spill()
		o.buf = append(o.buf, o.in[i:j]...)
	}
}

// spill goes over to copying.
func (o *Out) spill() {
	if !o.copied {
		o.copied = true
		o.buf = append(o.buf, o.in[o.from:o.to]...)
	}
}

// add inserts bytes that are not part of the input.
func (o *Out) add(b ...byte) {
	o.spill()
	o.buf = append(o.buf, b...)
}

// Bytes returns what was collected. It aliases the input or the Out, until the next call.
func (o *Out) Bytes() []byte {
	if o.copied {
		return o.buf
	}
	return o.in[o.from:o.to]
}

// Outs are both sides of one call. One is enough for a whole loop.
type Outs struct{ Server, Client Out }
