/**
 * Values by prefix: finds all whose key is the beginning of a text, in one walk along it, however many there are.
 * Edges carry as many characters as they have in common, so a walk takes as many steps as keys part.
 */
interface TreeNode<Value> {
  /** The characters from the parent to here. */
  label: string;
  /** By the first character of their labels. */
  readonly children: Map<string, TreeNode<Value>>;
  readonly values: Value[];
}

export class PrefixTree<Value> {
  readonly #root: TreeNode<Value> = { label: '', children: new Map(), values: [] };

  add(key: string, value: Value): void {
    let node = this.#root;
    for (let at = 0; at < key.length; at += node.label.length) node = step(node, key.slice(at));
    node.values.push(value);
  }

  /** Calls `visit` for each value, shorter keys first. */
  forEachPrefixOf(text: string, visit: (value: Value) => void): void {
    let node: TreeNode<Value> | undefined = this.#root;
    for (let at = 0; ;) {
      for (const value of node.values) visit(value);
      node = node.children.get(text.charAt(at));
      if (node === undefined || !text.startsWith(node.label, at)) return;
      at += node.label.length;
    }
  }
}

/** The child on the way of `rest`, made or divided so that its whole label is on it. */
function step<Value>(parent: TreeNode<Value>, rest: string): TreeNode<Value> {
  const first = rest.charAt(0);
  const child = parent.children.get(first);
  if (child === undefined) {
    const made: TreeNode<Value> = { label: rest, children: new Map(), values: [] };
    parent.children.set(first, made);
    return made;
  }
  let common = 1;
  while (common < child.label.length && child.label[common] === rest[common]) common++;
  if (common === child.label.length) return child;
  const middle: TreeNode<Value> = { label: child.label.slice(0, common), children: new Map(), values: [] };
  child.label = child.label.slice(common);
  middle.children.set(child.label.charAt(0), child);
  parent.children.set(first, middle);
  return middle;
}
