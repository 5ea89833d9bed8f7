// The gallery's pictures, kept in this browser: in IndexedDB, or in memory where that is switched off.

const NAME = "latentworks";
const TABLE = "pictures";
export const MOST = 60;

/** Both stores: `all` gives the newest first, `add` an entry with its id, and those that had to make room. */
export async function openStore() {
  try {
    return new Kept(await opened());
  } catch {
    return new InMemory();
  }
}

class Kept {
  #database;

  constructor(database) {
    this.#database = database;
  }

  async all() {
    const entries = await done(this.#table("readonly").getAll());
    return entries.reverse();
  }

  async add(entry) {
    const id = await done(this.#table("readwrite").add(entry));
    const ids = await done(this.#table("readonly").getAllKeys());
    const gone = ids.slice(0, Math.max(0, ids.length - MOST));
    for (const one of gone) await this.remove(one);
    return { entry: { ...entry, id }, gone };
  }

  remove(id) {
    return done(this.#table("readwrite").delete(id));
  }

  clear() {
    return done(this.#table("readwrite").clear());
  }

  #table(mode) {
    return this.#database.transaction(TABLE, mode).objectStore(TABLE);
  }
}

class InMemory {
  #entries = [];
  #next = 1;

  async all() {
    return [...this.#entries];
  }

  async add(entry) {
    const kept = { ...entry, id: this.#next++ };
    this.#entries.unshift(kept);
    return { entry: kept, gone: this.#entries.splice(MOST).map(({ id }) => id) };
  }

  async remove(id) {
    this.#entries = this.#entries.filter((one) => one.id !== id);
  }

  async clear() {
    this.#entries = [];
  }
}

function opened() {
  const request = indexedDB.open(NAME, 1);
  request.onupgradeneeded = () => request.result.createObjectStore(TABLE, { keyPath: "id", autoIncrement: true });
  return done(request);
}

function done(request) {
  return new Promise((resolve, reject) => {
    request.onsuccess = () => resolve(request.result);
    request.onerror = () => reject(request.error);
    request.onblocked = () => reject(new Error("another tab holds the gallery"));
  });
}
