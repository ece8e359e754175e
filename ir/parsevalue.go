package ir

import (
	"encoding/base64"
	"math"
	"slices"
	"strconv"
	"strings"

	"github.com/thriftc/thriftc/ir/tensor"
)

// attrs parses the attributes of a node of op, which is nil when unknown, from { to }, if any.
func (p *parser) attrs(g *Graph, op *Op, depth int) (Attrs, bool) {
	var attrs Attrs
	if !p.accept("{") {
		return nil, true
	}
	for !p.at("}") {
		pos := p.tok.pos
		name, ok := p.ident("an attribute")
		if !ok || !p.expect("=") {
			return nil, false
		}
		if attrs.Has(name) {
			p.errorf(pos, "attribute %s is given twice", name)
		}
		var want AttrKind
		if op != nil {
			if spec := op.Attr(name); spec != nil {
				want = spec.Kind
			}
		}
		v, ok := p.attr(g, want, depth)
		if !ok {
			return nil, false
		}
		attrs.Set(name, v)
		if !p.accept(",") {
			break
		}
	}
	return attrs, p.expect("}")
}

// attr parses an attribute's value. want, the kind that the operator declares,
// decides what whole numbers and empty lists are; 0 when not known.
func (p *parser) attr(g *Graph, want AttrKind, depth int) (any, bool) {
	switch {
	case p.at("["):
		return p.list(want)
	case p.at("ints"), p.at("floats"), p.at("strings"):
		kind := map[string]AttrKind{"ints": IntsAttr, "floats": FloatsAttr, "strings": StringsAttr}[p.tok.text]
		p.advance()
		return p.list(kind)
	case p.at("graph"):
		body := NewBody("", g)
		return body, p.graph(body, depth+1)
	case p.at("tensor"):
		p.advance()
		pos := p.tok.pos
		t, ok := p.typ()
		if !ok {
			return nil, false
		}
		return p.tensor(t, pos)
	case p.tok.kind == stringToken:
		return p.str("text")
	}
	return p.number(want == FloatAttr)
}

// number parses an int64 or, when it is written with a point or an exponent
// or a float is wanted, a float32.
func (p *parser) number(float bool) (any, bool) {
	pos := p.tok.pos
	text, ok := p.scalar()
	if !ok {
		return nil, false
	}
	if !float {
		if i, err := strconv.ParseInt(text, 10, 64); err == nil {
			return i, true
		}
		if !strings.ContainsAny(text, ".einx") {
			return nil, p.errorf(pos, "%s is not an integer of 64 bits", shorten(text))
		}
	}
	bits, err := parseElem(tensor.F32, text)
	if err != nil {
		return nil, p.errorf(pos, "%s is not a number", shorten(text))
	}
	return math.Float32frombits(uint32(bits)), true
}

// scalar returns the text of a number, of true, false, inf or nan, or of a NaN with its bits.
func (p *parser) scalar() (string, bool) {
	t := p.tok
	switch {
	case t.kind == numberToken, t.kind == identToken && slices.Contains([]string{"inf", "true", "false"}, t.text):
		p.advance()
		return t.text, true
	case p.accept("nan"):
		if !p.accept(":") {
			return "nan", true
		}
		bits := p.tok.text
		if p.tok.kind != numberToken {
			return "", p.unexpected("the bits of a NaN such as 0x7fc00001")
		}
		p.advance()
		return "nan:" + bits, true
	}
	return "", p.unexpected("a value")
}

// list parses the rest of an attribute's list: strings, floats if one of the
// numbers is one or floats are wanted, integers otherwise.
func (p *parser) list(want AttrKind) (any, bool) {
	pos := p.tok.pos
	if !p.expect("[") {
		return nil, false
	}
	ints, floats, strs := []int64{}, []float32{}, []string{}
	for !p.at("]") {
		if p.tok.kind == stringToken {
			s, ok := p.str("text")
			if !ok {
				return nil, false
			}
			strs = append(strs, s)
		} else {
			v, ok := p.number(want == FloatsAttr)
			if !ok {
				return nil, false
			}
			switch x := v.(type) {
			case int64:
				ints = append(ints, x)
			case float32:
				floats = append(floats, x)
			}
		}
		if !p.accept(",") {
			break
		}
	}
	if !p.expect("]") {
		return nil, false
	}
	got := 0
	for _, n := range []int{len(ints), len(floats), len(strs)} {
		got += min(n, 1)
	}
	switch {
	case got > 1:
		return nil, p.errorf(pos, "a list holds only one kind of value")
	case len(strs) > 0 || got == 0 && want == StringsAttr:
		return strs, true
	case len(floats) > 0 || got == 0 && want == FloatsAttr:
		return floats, true
	}
	return ints, true
}

// tensor parses the contents of a tensor of type t, whose place is pos.
func (p *parser) tensor(t Type, pos int) (*tensor.Tensor, bool) {
	shape, static := t.Static()
	n, err := tensor.NumElems(shape)
	if !static || err != nil {
		return nil, p.errorf(pos, "%v is not the type of a tensor: its shape must be fixed", t)
	}
	if t.Elem.IsSequence() {
		return nil, p.errorf(pos, "%v cannot be given: a sequence is computed", t)
	}
	if t.Elem == tensor.String {
		return p.stringTensor(shape, n, pos)
	}
	var raw []byte
	switch {
	case p.accept("base64"):
		text, ok := p.str("base64 text")
		if !ok {
			return nil, false
		}
		size := packedBytes(t.Elem, n)
		if got := base64.StdEncoding.DecodedLen(len(text)); size < 0 || size > got || size < got-2 {
			return nil, p.errorf(pos, "%v takes %d bytes, about %d are given", t, size, got)
		}
		packed, err := base64.StdEncoding.DecodeString(text)
		if err != nil || len(packed) != size {
			return nil, p.errorf(pos, "%v takes %d bytes of base64: got %d, %v", t, size, len(packed), err)
		}
		if raw, err = unpackBits(t.Elem, packed, n); err != nil {
			return nil, p.errorf(pos, "%v", err)
		}
	case p.accept("splat"):
		one, ok := p.element(t.Elem, nil)
		if !ok {
			return nil, false
		}
		if n > (maxSplatBytes-p.splat)/len(one) {
			return nil, p.errorf(pos, "tensors given by one number take more than %d MiB", maxSplatBytes>>20)
		}
		p.splat += n * len(one)
		for range n {
			raw = append(raw, one...)
		}
	case t.Rank() == 0 && !p.at("["):
		var ok bool
		if raw, ok = p.element(t.Elem, nil); !ok {
			return nil, false
		}
	default:
		var ok bool
		if raw, ok = p.elements(t.Elem); !ok {
			return nil, false
		}
	}
	if have := len(raw) / t.Elem.ContainerBytes(); have != n {
		return nil, p.errorf(pos, "%v has %d elements, %d are given", t, n, have)
	}
	out, err := fromRawBytes(t.Elem, raw, shape)
	if err != nil {
		return nil, p.errorf(pos, "%v", err)
	}
	if bits := t.Elem.Bits(); bits > 8 && bits < 8*t.Elem.ContainerBytes() { // base64 holds whole containers
		if err := out.CheckRange(); err != nil {
			return nil, p.errorf(pos, "%v", err)
		}
	}
	return out, true
}

func (p *parser) elements(e tensor.Elem) (raw []byte, ok bool) {
	if !p.expect("[") {
		return nil, false
	}
	for !p.at("]") {
		if raw, ok = p.element(e, raw); !ok {
			return nil, false
		}
		if !p.accept(",") {
			break
		}
	}
	return raw, p.expect("]")
}

// element parses one element and appends its container's bytes.
func (p *parser) element(e tensor.Elem, raw []byte) ([]byte, bool) {
	pos := p.tok.pos
	text, ok := p.scalar()
	if !ok {
		return nil, false
	}
	bits, err := parseElem(e, text)
	if err != nil {
		return nil, p.errorf(pos, "%v", err)
	}
	for i := range e.ContainerBytes() {
		raw = append(raw, byte(bits>>(8*i)))
	}
	return raw, true
}

func (p *parser) stringTensor(shape []int, n, pos int) (*tensor.Tensor, bool) {
	v, ok := p.list(StringsAttr)
	if !ok {
		return nil, false
	}
	strs, ok := v.([]string)
	if !ok || len(strs) != n {
		return nil, p.errorf(pos, "the tensor has %d strings, other or fewer elements are given", n)
	}
	return tensor.Of(strs, shape...), true
}
